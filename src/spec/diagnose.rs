//! A refusal that shows file:line:column, the line, the cause and what to write instead.

use crate::error::{Fault, Kind};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::ops::Range;
use std::path::Path;

/// A text file that is being read.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// For messages; shown as given.
    pub path: &'a Path,
    /// Its whole text.
    pub text: &'a str,
}

/// Refuses the part of a file at `span` (bytes), saying why and what to write instead.
#[must_use]
pub fn refuse(source: Source<'_>, span: Option<Range<usize>>, why: &str, instead: Option<&str>) -> anyhow::Error {
    let len = source.text.len();
    let span = span.unwrap_or(0..0);
    let start = span.start.min(len);
    // An empty span at the end of a line would be drawn nowhere.
    let end = span.end.clamp(start, len);
    let path = source.path.display().to_string();
    let why = why
        .trim_end_matches('\n')
        .escape_debug()
        .to_string()
        .replace("\\n", "; ")
        .replace("\\\"", "\"")
        .replace("\\'", "'");
    let snippet =
        Snippet::source(source.text).path(&path).annotation(AnnotationKind::Primary.span(start..end).label(&why));
    let title = format!("{path} is not valid");
    let group = Level::ERROR.primary_title(&title).element(snippet);
    let drawn = Renderer::plain().render(&[group]).to_string();
    // The renderer's own title line repeats what the printed error begins with.
    let body = drawn.split_once('\n').map_or(drawn.as_str(), |(_, body)| body);
    let fault = Fault::new(Kind::Spec, format!("{title}\n{body}"));
    instead.map_or_else(|| fault.clone(), |hint| fault.clone().hint(hint)).into()
}
