//! `mydocker history`.

use serde_json::json;

use super::failure::While as _;
use super::output::{self, Format, Table};
use super::{Global, Outcome};
use crate::container;
use crate::image::{self, Step};

/// How much of a command is shown, in characters.
const SHOWN: usize = 45;

/// Show the steps by which an image was made
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// table, or json for one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show sizes in a form for people; --human=false shows bytes and full times
    #[arg(
        short = 'H',
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    human: bool,
    /// Show ids and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Name, id or first digits of an id
    image: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("history {}", args.image);
    let store = global.store().doing(&what)?;
    let image = image::find(&store, &args.image).doing(&what)?;
    let steps = image::history(&store, &image).doing(&what)?;
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for (at, step) in steps.iter().enumerate() {
        // Only the last step is an image that has an id.
        let id = match at {
            0 if args.no_trunc => image.id.to_string(),
            0 => image.id.digest().short().to_owned(),
            _ => "<missing>".to_owned(),
        };
        let [since, at, by, size, comment] = cells(step, args);
        match args.format {
            _ if args.quiet => output::data(&format!("{id}\n")),
            Format::Json => output::json_line(&json!({
                "ID": id,
                "CreatedAt": at,
                "CreatedBy": by,
                "CreatedSince": since,
                "Size": size,
                "Comment": comment,
            })),
            Format::Table if args.human => table.row(vec![id, since, by, size, comment]),
            Format::Table => table.row(vec![id, at, by, size, comment]),
        }
    }
    if args.format == Format::Table && !args.quiet {
        table.print();
    }
    Ok(0)
}

/// How long ago, when, by what, size, comment.
fn cells(step: &Step, args: &Args) -> [String; 5] {
    let created = step.created.as_deref().and_then(output::parse_timestamp);
    // As docker has it, a time that is not known is no time at all.
    let known = created.filter(|created| *created > 0);
    let since = known.map_or_else(
        || "N/A".to_owned(),
        |created| format!("{} ago", output::duration(container::now() - created)),
    );
    // Escaped, so that an image cannot write to the terminal of whoever looks at it.
    let plain = |text: &Option<String>| -> String {
        let text = text.as_deref().unwrap_or_default().replace(['\n', '\t'], " ");
        text.chars().flat_map(escape).collect()
    };
    let mut by = plain(&step.created_by);
    if !args.no_trunc && by.chars().count() > SHOWN {
        by = by.chars().take(SHOWN - 1).collect();
        by.push('…');
    }
    let size = if args.human { output::size(step.size) } else { step.size.to_string() };
    let at = created.map(output::timestamp).unwrap_or_default();
    [since, at, by, size, plain(&step.comment)]
}

fn escape(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}
