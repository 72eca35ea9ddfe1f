//! Strings that refuse: a value of one of these types cannot add a directive to a unit or a path to an archive.

use std::fmt;

/// Why a text was refused, for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A name: lower-case letters, digits, `-`, beginning with a letter, at most 63 characters. Roles, images, variables,
/// certificates and host names are all such labels (RFC 1123 without a leading digit).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Takes a text as a name.
    ///
    /// # Errors
    /// When it is not one.
    pub fn new(text: &str) -> Result<Self, Refused> {
        let good = text.len() <= 63
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !good {
            return Err(Refused(format!(
                "`{}` is not a name: lower-case letters, digits and `-`, a letter first, at most 63",
                text.escape_debug()
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as an identifier of a template: `-` becomes `_`.
    #[must_use]
    pub fn identifier(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes a text that must stay on one line and hold no control character: what goes into unit files and command lines.
///
/// # Errors
/// When it holds one.
pub fn single_line(text: &str) -> Result<&str, Refused> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(Refused(format!("the text holds the control character `{}`", c.escape_default()))),
        None => Ok(text),
    }
}

/// Takes a relative path whose parts are not empty, `.` or `..`: what a spec may name on the host or in an image.
///
/// # Errors
/// When it could leave its directory.
pub fn relative_path(text: &str) -> Result<&str, Refused> {
    single_line(text)?;
    if text.is_empty() || text.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Refused(format!("`{text}` is not a relative path without `.` and `..`")));
    }
    Ok(text)
}

/// Takes the name of a Debian package (Debian Policy 5.6.1).
///
/// # Errors
/// When it cannot be one.
pub fn debian_package(text: &str) -> Result<&str, Refused> {
    let good = text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
    if good { Ok(text) } else { Err(Refused(format!("`{}` is not the name of a Debian package", text.escape_debug()))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        assert!(Name::new("worker-1").is_ok());
        for bad in ["", "1a", "a-", "A", "a_b", "a b", "a\n", &"a".repeat(64)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_newline_cannot_add_a_directive() {
        assert!(single_line("a\nExecStart=/bin/sh").is_err());
        assert!(relative_path("../etc/shadow").is_err());
        assert!(relative_path("/etc/shadow").is_err());
        assert!(debian_package("a b").is_err());
        assert!(debian_package("libstdc++6").is_ok());
    }
}
