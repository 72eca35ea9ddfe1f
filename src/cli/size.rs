//! `nodelith inspect size`: where an image's bytes come from, as a table, as JSON and as a picture.

use super::output::{Printer, bytes};
use crate::error::Result;
use crate::format::treemap::{self, Group};
use crate::image::{self, Part};
use crate::manifest::Manifest;
use crate::sys;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Shows the sizes of a built image. `image` is its directory, or its spec: then the directory is below `out`.
pub(super) fn run(image: &Path, out: &Path, svg: Option<&PathBuf>, rows: usize, printer: &Printer) -> Result<()> {
    let is_spec = image.extension().is_some_and(|extension| extension == "toml");
    let dir = if is_spec { out.join(image.file_stem().unwrap_or_default()) } else { image.to_owned() };
    let (manifest, _) = Manifest::of_image(&dir)?;
    let parts = image::contents(&dir, &manifest)?;
    let origins = by_origin(&parts);
    let sum = |of: fn(&Part) -> u64| parts.iter().map(of).sum::<u64>();
    let (stored, content) = (sum(|part| part.stored), sum(|part| part.content));
    let title = if manifest.reference.is_some() {
        let archive = manifest.outputs.iter().map(|output| output.size).sum();
        format!("{}: an archive of {}, which unpacks to {}", manifest.name, bytes(archive), bytes(stored))
    } else {
        format!("{}: {} on the disk for {} of content", manifest.name, bytes(stored), bytes(content))
    };
    if let Some(path) = svg {
        sys::fs::write_atomic(path, picture(&title, &origins).as_bytes())?;
    }
    let groups = origins.iter().map(|(origin, parts)| Total::of(origin, parts)).collect::<Vec<_>>();
    let text = table(&title, &groups, &parts, rows);
    let origins = groups.iter().map(Total::json).collect::<Vec<_>>();
    let value =
        json!({"image": manifest.name, "stored": stored, "content": content, "origins": origins, "files": parts});
    printer.result(&text, &value)
}

/// What comes from one origin.
struct Total<'a> {
    origin: &'a str,
    files: usize,
    content: u64,
    stored: u64,
}

impl<'a> Total<'a> {
    fn of(origin: &'a str, parts: &[&Part]) -> Self {
        let sum = |of: fn(&Part) -> u64| parts.iter().map(|part| of(part)).sum();
        Self { origin, files: parts.len(), content: sum(|part| part.content), stored: sum(|part| part.stored) }
    }

    fn json(&self) -> serde_json::Value {
        json!({"origin": self.origin, "files": self.files, "content": self.content, "stored": self.stored})
    }
}

/// Parts by origin, the largest on the disk first.
fn by_origin(parts: &[Part]) -> Vec<(&str, Vec<&Part>)> {
    let mut origins: BTreeMap<&str, Vec<&Part>> = BTreeMap::new();
    for part in parts {
        origins.entry(&part.origin).or_default().push(part);
    }
    let mut origins: Vec<_> = origins.into_iter().collect();
    // Stable: equal sizes stay in the order of their names.
    origins.sort_by_key(|(_, parts)| std::cmp::Reverse(parts.iter().map(|part| part.stored).sum::<u64>()));
    origins
}

fn table(title: &str, groups: &[Total<'_>], parts: &[Part], rows: usize) -> String {
    let mut text = format!("{title}\n\n{:>11} {:>11} {:>6}  from\n", "on disk", "content", "files");
    for group in groups.iter().take(rows) {
        let (stored, content) = (bytes(group.stored), bytes(group.content));
        text += &format!("{stored:>11} {content:>11} {:>6}  {}\n", group.files, group.origin);
    }
    text += &more(groups.len(), rows);
    text += &format!("\n{:>11} {:>11}  file\n", "on disk", "content");
    for part in parts.iter().take(rows) {
        text += &format!("{:>11} {:>11}  {}\n", bytes(part.stored), bytes(part.content), part.path);
    }
    text + &more(parts.len(), rows)
}

fn more(all: usize, rows: usize) -> String {
    if all > rows { format!("{:>11} and {} more; --rows N shows them\n", "…", all - rows) } else { String::new() }
}

fn picture(title: &str, origins: &[(&str, Vec<&Part>)]) -> String {
    let part = |part: &&Part| treemap::Part { name: part.path.clone(), size: part.stored, shown: bytes(part.stored) };
    let groups = origins.iter().map(|(origin, parts)| {
        let stored = bytes(parts.iter().map(|part| part.stored).sum());
        // `deb systemd 257.13-1`: the package alone is what fits.
        let short = origin.split(' ').nth(1).unwrap_or(origin);
        let (name, says) = (format!("{short}  {stored}"), format!("{origin}  {stored}"));
        Group { name, says, parts: parts.iter().map(part).collect() }
    });
    treemap::svg(title, &groups.collect::<Vec<_>>())
}
