//! Patterns of claims and of the table of bad console lines: a piece of text in which `*` stands for anything.

/// Whether `line` holds `pattern`: its pieces between `*`, in this order, anywhere.
#[must_use]
pub fn holds(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    for piece in pattern.split('*') {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

/// Text without terminal control sequences (ECMA-48 CSI and OSC) and without other control characters but tabs.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
                Some(']') => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {},
                _ => {}
            },
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything_in_order() {
        assert!(holds("device-mapper: verity: 254:1: data block 0 is corrupted", "verity: * is corrupted"));
        assert!(!holds("is corrupted verity: ", "verity: * is corrupted"));
        assert!(holds("anything", "") && holds("anything", "*") && !holds("", "x"));
        assert!(!holds("aba", "ab*ba"), "pieces may not overlap");
    }

    #[test]
    fn control_sequences_vanish() {
        assert_eq!(plain("\u{1b}[0;1;31mFailed\u{1b}[0m to start\r"), "Failed to start");
        assert_eq!(plain("\u{1b}]0;title\u{7}\u{1b}[2Jx\u{1b}"), "x");
    }
}
