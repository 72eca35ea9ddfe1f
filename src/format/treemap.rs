//! A treemap as SVG: areas as large as what they stand for, grouped, so that one look shows where the bytes are.
//!
//! Rectangles are laid out in rows that keep them close to squares: "Squarified Treemaps" of Bruls, Huizing and van Wijk,
//! 2000. A label stands only where it can be read; every rectangle says its whole name and size to a pointer.

use std::fmt::Write as _;

/// What belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its heading.
    pub name: String,
    /// Its whole name, for a pointer.
    pub says: String,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// One rectangle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its whole name; the label is what stands behind the last slash.
    pub name: String,
    /// Decides its area.
    pub size: u64,
    /// Its size for people.
    pub shown: String,
}

const WIDTH: f64 = 1600.0;
const HEIGHT: f64 = 1000.0;
/// Height of the title, and of a group's heading.
const TITLE: f64 = 32.0;
const HEADING: f64 = 18.0;
/// Width of an average character of the labels, a little more than it is: fonts differ.
const CHARACTER: f64 = 6.8;
/// The same of headings, which are bold.
const BOLD: f64 = 8.0;
/// Smaller parts of a group are drawn as one: nobody could see or point at them.
const VISIBLE: f64 = 40.0;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rect {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

impl Rect {
    /// Smaller by so much on each side.
    fn inset(self, by: f64) -> Self {
        let (w, h) = ((self.w - 2.0 * by).max(0.0), (self.h - 2.0 * by).max(0.0));
        Self { x: self.x + by, y: self.y + by, w, h }
    }
}

/// Draws groups as a treemap under a title. Equal groups give equal text.
#[must_use]
pub fn svg(title: &str, groups: &[Group]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"22\" font-size=\"18\">{}</text>\n",
        escape(title)
    );
    let mut groups: Vec<(&Group, u64)> =
        groups.iter().map(|group| (group, group.parts.iter().map(|part| part.size).sum())).collect();
    groups.retain(|(_, size)| *size > 0);
    groups.sort_by(|(a, size_a), (b, size_b)| size_b.cmp(size_a).then_with(|| a.name.cmp(&b.name)));
    let sizes: Vec<u64> = groups.iter().map(|(_, size)| *size).collect();
    let whole = Rect { x: 4.0, y: TITLE, w: WIDTH - 8.0, h: HEIGHT - TITLE - 4.0 };
    for (at, ((group, _), rect)) in groups.iter().zip(squarify(&sizes, whole)).enumerate() {
        draw_group(&mut out, group, rect.inset(1.0), at);
    }
    out + "</svg>\n"
}

#[expect(clippy::cast_precision_loss, reason = "pixels need no more")]
fn draw_group(out: &mut String, group: &Group, rect: Rect, at: usize) {
    // Steps of the golden angle keep neighbours apart however many groups there are.
    let hue = (at as f64 * 137.508).rem_euclid(360.0);
    let _ = writeln!(out, "<g>");
    draw(out, rect, &format!("hsl({hue:.0},45%,42%)"), &group.says);
    let heading = label(&group.name, rect.w, BOLD).filter(|_| rect.h > 2.0 * HEADING);
    let inner = if let Some(name) = heading {
        let (x, y) = (rect.x + 5.0, rect.y + 13.0);
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"#fff\" font-weight=\"bold\">{}</text>",
            escape(&name)
        );
        Rect { y: rect.y + HEADING, h: rect.h - HEADING, ..rect }.inset(1.0)
    } else {
        rect.inset(1.0)
    };
    let mut parts: Vec<&Part> = group.parts.iter().filter(|part| part.size > 0).collect();
    parts.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    let sum: u64 = parts.iter().map(|part| part.size).sum();
    let area = |size: u64| size as f64 / sum.max(1) as f64 * inner.w * inner.h;
    let seen = parts.iter().take_while(|part| area(part.size) >= VISIBLE).count();
    let rest: u64 = parts[seen..].iter().map(|part| part.size).sum();
    let rest = Part { name: format!("{} smaller", parts.len() - seen), size: rest, shown: String::new() };
    let mut drawn: Vec<&Part> = parts[..seen].to_vec();
    if rest.size > 0 {
        drawn.push(&rest);
    }
    let sizes: Vec<u64> = drawn.iter().map(|part| part.size).collect();
    for (part, rect) in drawn.iter().zip(squarify(&sizes, inner)) {
        let rect = rect.inset(0.5);
        draw(out, rect, &format!("hsl({hue:.0},55%,84%)"), format!("{} {}", part.name, part.shown).trim_end());
        let short = part.name.rsplit('/').next().unwrap_or_default();
        if rect.h >= 15.0
            && let Some(text) = label(short, rect.w, CHARACTER)
        {
            let (x, y) = (rect.x + 3.0, rect.y + 12.0);
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"#222\">{}</text>", escape(&text));
        }
        if rect.h >= 30.0
            && !part.shown.is_empty()
            && let Some(text) = label(&part.shown, rect.w, CHARACTER)
            && text == part.shown
        {
            let (x, y) = (rect.x + 3.0, rect.y + 26.0);
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"#555\">{}</text>", escape(&text));
        }
    }
    let _ = writeln!(out, "</g>");
}

fn draw(out: &mut String, rect: Rect, fill: &str, says: &str) {
    let Rect { x, y, w, h } = rect;
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{fill}\"><title>{}</title></rect>",
        escape(says)
    );
}

/// As much of a text as fits into a width, or nothing when that would not tell anything.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of characters")]
fn label(text: &str, width: f64, character: f64) -> Option<String> {
    let room = ((width - 8.0) / character).max(0.0) as usize;
    match text.chars().count() {
        len if len <= room => Some(text.to_owned()),
        _ if room >= 5 => Some(text.chars().take(room - 1).chain(['…']).collect()),
        _ => None,
    }
}

/// Rectangles for sizes, which must be sorted, the largest first. They fill the whole and do not overlap.
#[expect(clippy::cast_precision_loss, reason = "pixels need no more")]
fn squarify(sizes: &[u64], whole: Rect) -> Vec<Rect> {
    let sum: f64 = sizes.iter().map(|size| *size as f64).sum();
    let areas: Vec<f64> = sizes.iter().map(|size| *size as f64 / sum * whole.w * whole.h).collect();
    let mut out = Vec::with_capacity(areas.len());
    let (mut left, mut rest) = (whole, areas.as_slice());
    while let Some(first) = rest.first() {
        let side = left.w.min(left.h);
        // A row takes more as long as that makes its worst rectangle better.
        let (mut len, mut row, mut worst) = (1, *first, ratio(*first, *first, *first, side));
        while let Some(next) = rest.get(len) {
            let with = ratio(*first, *next, row + next, side);
            if with > worst {
                break;
            }
            (len, row, worst) = (len + 1, row + next, with);
        }
        let (now, later) = rest.split_at(len);
        let depth = if side > 0.0 { row / side } else { 0.0 };
        let mut along = 0.0;
        for area in now {
            let part = if depth > 0.0 { area / depth } else { 0.0 };
            out.push(if left.w <= left.h {
                Rect { x: left.x + along, y: left.y, w: part, h: depth }
            } else {
                Rect { x: left.x, y: left.y + along, w: depth, h: part }
            });
            along += part;
        }
        if left.w <= left.h {
            left = Rect { y: left.y + depth, h: (left.h - depth).max(0.0), ..left };
        } else {
            left = Rect { x: left.x + depth, w: (left.w - depth).max(0.0), ..left };
        }
        rest = later;
    }
    out
}

/// How far the worse of a row's largest and smallest rectangle is from a square.
fn ratio(largest: f64, smallest: f64, row: f64, side: f64) -> f64 {
    let side = side * side;
    (side * largest / (row * row)).max(row * row / (side * smallest))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_true_inside_and_apart() {
        let whole = Rect { x: 10.0, y: 20.0, w: 600.0, h: 400.0 };
        let sizes = [600, 600, 400, 300, 200, 200, 100, 3, 1];
        let rects = squarify(&sizes, whole);
        let sum: u64 = sizes.iter().sum();
        for (size, rect) in sizes.iter().zip(&rects) {
            let want = *size as f64 / sum as f64 * 240_000.0;
            assert!((rect.w * rect.h - want).abs() < 1e-6, "{size}: {rect:?}");
            assert!(rect.x >= 10.0 && rect.y >= 20.0, "{rect:?}");
            assert!(rect.x + rect.w <= 610.0 + 1e-6 && rect.y + rect.h <= 420.0 + 1e-6, "{rect:?}");
        }
        for (at, a) in rects.iter().enumerate() {
            for b in &rects[at + 1..] {
                let wide = (a.x + a.w).min(b.x + b.w) - a.x.max(b.x);
                let high = (a.y + a.h).min(b.y + b.h) - a.y.max(b.y);
                assert!(wide < 1e-6 || high < 1e-6, "{a:?} and {b:?} overlap");
            }
        }
        // The paper's example: 6×4 with 6, 6, 4, 3, 2, 2, 1 begins with two squares' worth side by side.
        let paper = squarify(&[6, 6, 4, 3, 2, 2, 1], Rect { x: 0.0, y: 0.0, w: 6.0, h: 4.0 });
        assert_eq!(
            (paper[0], paper[1]),
            (Rect { x: 0.0, y: 0.0, w: 3.0, h: 2.0 }, Rect { x: 0.0, y: 2.0, w: 3.0, h: 2.0 })
        );
    }

    #[test]
    fn the_picture_names_everything_and_escapes_names() {
        let part = |name: &str, size| Part { name: name.into(), size, shown: format!("{size} B") };
        let groups = [
            Group {
                name: "a & b".into(),
                says: "a & b, whole".into(),
                parts: vec![part("usr/<x>", 5_000_000), part("usr/tiny", 1), part("usr/none", 0)],
            },
            Group { name: "empty".into(), says: String::new(), parts: vec![part("usr/zero", 0)] },
        ];
        let text = svg("t \"quoted\"", &groups);
        assert!(
            text.contains("a &amp; b")
                && text.contains("usr/&lt;x&gt; 5000000 B")
                && text.contains("&quot;quoted&quot;")
        );
        assert!(text.contains("1 smaller") && !text.contains("empty") && !text.contains("NaN"));
        assert_eq!(text, svg("t \"quoted\"", &groups));
        assert!(!svg("nothing", &[]).contains("NaN"));
    }

    #[test]
    fn labels_are_cut_where_they_still_tell_something() {
        assert_eq!(label("short", 100.0, CHARACTER).as_deref(), Some("short"));
        assert_eq!(label("a-long-file-name", 60.0, CHARACTER).as_deref(), Some("a-long…"));
        assert_eq!(label("a-long-file-name", 30.0, CHARACTER), None);
    }
}
