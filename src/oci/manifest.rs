//! Manifests and indexes, and the rule that a document is one or the other.
//!
//! Specification: image-spec, `manifest.md` and `image-index.md`; Docker's "Image Manifest V 2, Schema 2".

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::descriptor::{Descriptor, null_is_empty};
use super::media_type;
use super::platform::Platform;

/// The largest manifest or index that is read, in bytes. The distribution-spec asks registries to take 4 MiB.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// The most descriptors that one document may hold.
pub const MAX_DESCRIPTORS: usize = 1000;
/// The annotation by which BuildKit marks what is not an image but a remark about one.
const ANNOTATION_ATTESTATION: &str = "vnd.docker.reference.type";

/// An image: its configuration and its layers, base first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; Docker requires it, OCI recommends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, base first.
    #[serde(deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
}

/// A choice of manifests, one for each platform.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, and further indexes.
    #[serde(deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
}

/// A parsed document, with nothing left to guess about its kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Document {
    /// An index or manifest list.
    Index(Index),
    /// An image manifest.
    Manifest(Manifest),
}

/// Why bytes are not an index or a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The body, its `mediaType` and the type it came under do not agree on what it is (CVE-2021-41190).
    #[error("ambiguous manifest: {0}")]
    Ambiguous(String),
    /// It is not JSON, or lacks a field, or a field has the wrong form.
    #[error("malformed manifest")]
    Json(#[from] serde_json::Error),
    /// Schema 1, which no longer has a digest that can be checked as such.
    #[error("unsupported manifest schema version {0}")]
    SchemaVersion(u64),
    /// More than [`MAX_DESCRIPTORS`] entries.
    #[error("manifest has {0} entries, more than the {MAX_DESCRIPTORS} allowed")]
    TooMany(usize),
    /// A type that is neither an index nor an image manifest.
    #[error("unsupported manifest media type `{0}`")]
    Unsupported(String),
}

impl Document {
    /// Parses `bytes`, which came under the media type `declared` (a `Content-Type` or a descriptor), if any.
    ///
    /// # Errors
    /// A document that could be read as both kinds is refused, whatever its type says.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self, DocumentError> {
        let value: Value = serde_json::from_slice(bytes)?;
        let version = value.get("schemaVersion").and_then(Value::as_u64);
        if let Some(version) = version.filter(|version| *version != 2) {
            return Err(DocumentError::SchemaVersion(version));
        }
        let has = |field: &str| value.get(field).is_some_and(|field| !field.is_null());
        let embedded = value.get("mediaType").and_then(Value::as_str);
        let ambiguous = |why: &str| Err(DocumentError::Ambiguous(why.to_owned()));
        let is_index = match (has("manifests"), has("config") || has("layers")) {
            (true, true) => return ambiguous("it has both `manifests` and `config` or `layers`"),
            (true, false) => true,
            (false, true) => false,
            // An index without images may leave the list out; a manifest without its config is none.
            (false, false) => match embedded.or(declared) {
                Some(kind) if media_type::is_index(kind) => true,
                Some(kind) if !media_type::is_manifest(kind) => {
                    return Err(DocumentError::Unsupported(short(kind)));
                }
                _ => false,
            },
        };
        for kind in [embedded, declared].into_iter().flatten() {
            if !media_type::is_index(kind) && !media_type::is_manifest(kind) {
                return Err(DocumentError::Unsupported(short(kind)));
            }
            if media_type::is_index(kind) != is_index {
                return ambiguous(&format!("its fields do not belong to its type `{kind}`"));
            }
        }
        if let (Some(embedded), Some(declared)) = (embedded, declared)
            && embedded != declared
        {
            return ambiguous(&format!("it says `{embedded}` and came as `{declared}`"));
        }
        let limited = |count: usize| match count {
            0..=MAX_DESCRIPTORS => Ok(()),
            _ => Err(DocumentError::TooMany(count)),
        };
        // Parsed from the bytes again, so that a field that occurs twice is an error and not a choice.
        if is_index {
            let index: Index = serde_json::from_slice(bytes)?;
            limited(index.manifests.len())?;
            Ok(Self::Index(index))
        } else {
            let manifest: Manifest = serde_json::from_slice(bytes)?;
            limited(manifest.layers.len())?;
            Ok(Self::Manifest(manifest))
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

impl Index {
    /// The entries that can serve `platform`, best first: manifests for it, then indexes and manifests that do not
    /// say what they are for. Attestations and other remarks are passed over.
    pub fn candidates(&self, platform: &Platform) -> Vec<&Descriptor> {
        let mut ranked: Vec<(u32, &Descriptor)> = Vec::new();
        for entry in self.manifests.iter().filter(|entry| is_image(entry)) {
            match &entry.platform {
                Some(offered) => ranked.extend(platform.rank(offered).map(|rank| (rank, entry))),
                None => ranked.push((u32::MAX, entry)),
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The platforms on offer, for the message that none of them fits.
    pub fn platforms(&self) -> Vec<String> {
        let images = self.manifests.iter().filter(|entry| is_image(entry));
        images.filter_map(|entry| entry.platform.as_ref()).map(Platform::to_string).collect()
    }
}

fn is_image(entry: &Descriptor) -> bool {
    let known =
        media_type::is_index(&entry.media_type) || media_type::is_manifest(&entry.media_type);
    let unknown_platform =
        entry.platform.as_ref().is_some_and(|p| p.os == "unknown" || p.architecture == "unknown");
    known && !unknown_platform && !entry.annotations.contains_key(ANNOTATION_ATTESTATION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use media_type::{OCI_INDEX, OCI_MANIFEST};

    fn descriptor(kind: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{}","size":2}}"#, "0".repeat(64))
    }

    #[test]
    fn a_document_is_of_one_kind() {
        let config = descriptor(media_type::OCI_CONFIG);
        let entry = descriptor(OCI_MANIFEST);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
        let parse = |text: &str, declared| Document::parse(text.as_bytes(), declared);
        assert!(matches!(parse(&manifest, Some(OCI_MANIFEST)), Ok(Document::Manifest(_))));
        assert!(matches!(parse(&manifest, None), Ok(Document::Manifest(_))));
        assert!(matches!(parse(&index, Some(OCI_INDEX)), Ok(Document::Index(_))));
        assert!(parse(&manifest, Some(OCI_INDEX)).is_err());
        assert!(parse(&index, Some(OCI_MANIFEST)).is_err());
        assert!(parse(&manifest, Some("text/html")).is_err());
        for embedded in [None, Some(OCI_INDEX), Some(OCI_MANIFEST)] {
            let kind = embedded.map(|kind| format!(r#""mediaType":"{kind}","#)).unwrap_or_default();
            let both = format!(
                r#"{{"schemaVersion":2,{kind}"config":{config},"layers":[],"manifests":[{entry}]}}"#
            );
            for declared in [OCI_INDEX, OCI_MANIFEST] {
                assert!(matches!(parse(&both, Some(declared)), Err(DocumentError::Ambiguous(_))));
            }
        }
        assert!(matches!(
            parse(r#"{"schemaVersion":1}"#, None),
            Err(DocumentError::SchemaVersion(1))
        ));
    }

    #[test]
    fn too_many_entries() {
        let entries = vec![descriptor(OCI_MANIFEST); MAX_DESCRIPTORS + 1].join(",");
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#);
        let parsed = Document::parse(index.as_bytes(), None);
        assert!(matches!(parsed, Err(DocumentError::TooMany(1001))));
    }

    #[test]
    fn candidates_pass_over_attestations() {
        let mut image = Descriptor::of(OCI_MANIFEST, b"a");
        image.platform = Some("linux/amd64".parse().unwrap());
        let mut attestation = Descriptor::of(OCI_MANIFEST, b"b");
        attestation.platform = Some("unknown/unknown".parse().unwrap());
        let nested = Descriptor::of(OCI_INDEX, b"c");
        let manifests = vec![nested.clone(), attestation, image.clone()];
        let index = Index { schema_version: 2, media_type: None, manifests };
        let amd64 = "linux/amd64".parse().unwrap();
        assert_eq!(index.candidates(&amd64), [&image, &nested]);
        assert_eq!(index.platforms(), ["linux/amd64"]);
    }
}
