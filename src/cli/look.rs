//! `mydocker inspect --remote`.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::failure::{Failure, While as _};
use super::output;
use super::remote::RemoteArgs;
use crate::image::{self, Look};
use crate::oci::descriptor::Descriptor;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

/// Options that say something only with `--remote`.
#[derive(Debug, clap::Args)]
pub(super) struct LookArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// With --remote: the image for this platform instead of this machine's own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", requires = "is_remote")]
    platform: Option<String>,
    /// With --remote: print the manifest or index alone, byte for byte
    #[arg(long, requires = "is_remote")]
    raw: bool,
}

/// What the registry says about the image `name`; `None` when it was printed as it came.
pub(super) fn document(args: &LookArgs, name: &str) -> Result<Option<Value>, Failure> {
    let what = format!("inspect {name}");
    let name = name.strip_prefix("docker://").unwrap_or(name);
    let reference: Reference = name.parse().doing(&what)?;
    let platform = args.platform.as_ref().map(|platform| platform.parse::<Platform>());
    let platform = platform.transpose().doing(&what)?;
    let client = args.remote.client().doing(&what)?;
    if args.raw {
        let raw = client.manifest(&reference).doing(&what)?;
        // What is no JSON may hold whatever a terminal obeys to.
        let text = std::str::from_utf8(&raw.bytes).ok();
        let text = text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let hint = "the registry may be broken; --debug shows whom it redirects to";
        output::data(text.ok_or_else(|| Failure::new(&what, "the manifest is no JSON", hint))?);
        return Ok(None);
    }
    let look = image::look(&client, &reference, platform.as_ref()).doing(&what)?;
    Ok(Some(in_json(&reference, &look)))
}

/// In the form and with the names of `docker image inspect`, as far as it has them. Sizes are those of what a pull
/// would fetch.
fn in_json(reference: &Reference, look: &Look) -> Value {
    let mut document = json!({
        "Name": reference.to_string(),
        "Digest": look.top.digest,
        "MediaType": look.top.media_type,
        "Platforms": look.entries.iter().map(entry).collect::<Vec<_>>(),
    });
    let Some(image) = &look.image else { return document };
    let config: Value = serde_json::from_slice(&image.config_bytes).unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&image.raw.bytes).unwrap_or_default();
    let (platform, layers) = (&image.config.platform, &image.manifest.layers);
    let size = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
    let details = json!({
        "Id": image.manifest.config.digest,
        "Created": image.config.created,
        "Author": config.get("author").cloned().unwrap_or_default(),
        "Architecture": platform.architecture,
        "Variant": platform.variant,
        "Os": platform.os,
        "Size": size,
        "Config": config.get("config").cloned().unwrap_or_default(),
        "RootFS": { "Type": "layers", "Layers": image.config.rootfs.diff_ids },
        "Layers": layers.iter().map(entry).collect::<Vec<_>>(),
        "Descriptor": {
            "mediaType": image.raw.media_type,
            "digest": image.raw.digest,
            "size": image.raw.bytes.len(),
        },
        "Manifest": manifest,
    });
    if let (Value::Object(document), Value::Object(details)) = (&mut document, details) {
        document.extend(details);
    }
    document
}

fn entry(descriptor: &Descriptor) -> Value {
    let mut entry = json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    });
    if let (Value::Object(entry), Some(platform)) = (&mut entry, &descriptor.platform) {
        entry.insert("platform".to_owned(), platform.to_string().into());
    }
    entry
}
