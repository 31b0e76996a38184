//! `udocker site list`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use udocker_core::store::{HeldImage, MarkKind};

use super::Outcome;
use super::store::StoreArg;
use crate::context::Context;
use crate::ui;

/// List the images of a central store, those without a tag as well.
///
/// Example: udocker site list
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub store: StoreArg,
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

/// One line: a tag, or an image without one.
struct Row<'a> {
    name: String,
    image: &'a HeldImage,
}

impl Row<'_> {
    fn state(&self) -> &'static str {
        match &self.image.mark {
            // The tag is what holds.
            Some(mark) if mark.kind == MarkKind::Retired && !self.image.tags.is_empty() => "published",
            Some(mark) => mark.kind.as_str(),
            None if self.image.tags.is_empty() => "unnamed",
            None => "published",
        }
    }
    /// Since when it is in this state.
    fn since(&self) -> SystemTime {
        let marked = self.image.mark.as_ref().filter(|mark| self.state() == mark.kind.as_str());
        marked.map_or_else(|| self.image.published(), |mark| mark.since)
    }
    /// Bytes of its tree; `None` if it was never flattened here.
    fn bytes(&self) -> Option<u64> {
        self.image.records.first().map(|(_, record)| record.tree_bytes)
    }
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let store = args.store.open(context)?;
    let images = store.held_images()?;
    let mut rows = Vec::new();
    for image in &images {
        rows.extend(image.tags.iter().map(|tag| Row { name: tag.display_name(), image }));
        if image.tags.is_empty() {
            rows.push(Row { name: image.shown(), image });
        }
    }
    if args.format == "json" {
        let list: Vec<_> = rows.iter().map(as_json).collect();
        context.ui.result(serde_json::to_string_pretty(&list).expect("a JSON value of ours serialises"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = vec![["NAME", "DIGEST", "SIZE", "STATE", "AGE"].map(str::to_owned)];
    table.extend(rows.iter().map(|row| {
        [
            row.name.clone(),
            row.image.manifest.to_string(),
            row.bytes().map_or_else(|| "-".to_owned(), ui::bytes),
            row.state().to_owned(),
            age(SystemTime::now().duration_since(row.since()).unwrap_or_default()),
        ]
    }));
    ui::aligned(&table).iter().for_each(|line| context.ui.result(line));
    Ok(ExitCode::SUCCESS)
}

/// See docs/reference/json.md.
fn as_json(row: &Row<'_>) -> serde_json::Value {
    let record = row.image.records.first().map(|(_, record)| record);
    json!({
        "name": row.name,
        "digest": row.image.manifest,
        "index": record.and_then(|record| record.index.as_ref()),
        "platform": record.map(|record| record.platform.to_string()),
        "bytes": row.bytes(),
        "state": row.state(),
        "since": row.since().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    })
}

/// The largest whole unit.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}
