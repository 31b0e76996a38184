//! `udocker ps`.

use std::process::ExitCode;

use serde_json::json;

use super::Outcome;
use crate::context::Context;

/// List the containers of all stores.
///
/// Example: udocker ps -m -s
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Add the execution mode.
    #[arg(short = 'm')]
    pub mode: bool,
    /// Add the size in MB.
    #[arg(short = 's')]
    pub size: bool,
    /// Add the platform.
    #[arg(short = 'p')]
    pub platform: bool,
    /// Ignored.
    #[arg(short = 'a', long, hide = true)]
    pub all: bool,
    /// IDs only, one a line.
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let stores = context.stores()?;
    if args.quiet {
        for store in stores.iter() {
            store.list_containers()?.iter().for_each(|container| context.ui.result(container.id().to_string()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut list = Vec::new();
    let mut lines = Vec::new();
    let line = |id: &str, p: char, m: char, mode: &str, size: &str, platform: &str, names: &str, image: &str| {
        let mut text = format!("{id:<36.36} {p} {m} ");
        // A head is wider than its column where udocker's is.
        if args.mode {
            text.push_str(&format!("{mode:.3} "));
        }
        if args.size {
            text.push_str(&format!("{size:>5.5} "));
        }
        if args.platform {
            text.push_str(&format!("{platform:<18.18} "));
        }
        text.push_str(&format!("{names:<18.100} {image:<20.100}"));
        text
    };
    lines.push(head(args));
    for store in stores.iter() {
        for container in store.list_containers()? {
            let mode = context.mode_of(&container).to_string();
            let size = if args.size { container.size_megabytes()?.to_string() } else { String::new() };
            let platform = container.platform().map_or("unknown/unknown".to_owned(), |platform| platform.to_string());
            let names = match container.names() {
                [] => String::new(),
                names => format!("[{}]", names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ")),
            };
            let protected = if container.is_protected() { 'P' } else { '.' };
            let (id, image) = (container.id().to_string(), container.image());
            lines.push(line(&id, protected, container.access_mark(), &mode, &size, &platform, &names, image));
            list.push(json!({"id": id, "names": container.names().iter().map(ToString::to_string).collect::<Vec<_>>(),
                "image": image, "mode": mode, "protected": container.is_protected(), "platform": platform,
                "layered": container.is_layered(), "store": store.settings().name}));
        }
    }
    if args.format == "json" {
        context.ui.result(serde_json::to_string_pretty(&list).expect("a JSON value of ours serialises"));
    } else {
        lines.iter().for_each(|line| context.ui.result(line));
    }
    Ok(ExitCode::SUCCESS)
}

/// udocker's head, blank for blank.
fn head(args: &Args) -> String {
    let column = |given: bool, text| if given { text } else { "" };
    let (mode, size) = (column(args.mode, "MOD "), column(args.size, "SIZE "));
    let platform = column(args.platform, "PLATFORM           ");
    format!("{:<36} P M {mode}{size}{platform}{:<18} {:<20}", "CONTAINER ID", "NAMES", "IMAGE")
}
