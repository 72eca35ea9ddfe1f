//! Values against their types: what a variable may hold, and how a refusal says what to write instead.

use super::role::{Value, ValueType};
use crate::text::{Name, single_line};
use std::net::IpAddr;

/// Takes a TOML value as a value of a type.
///
/// # Errors
/// The reason, for the user.
pub(super) fn typed(value_type: &ValueType, value: &toml::Value) -> Result<Value, String> {
    match (value_type, value) {
        (ValueType::Integer, toml::Value::Integer(number)) => Ok(Value::Integer(*number)),
        (ValueType::Port, toml::Value::Integer(number)) => match u16::try_from(*number) {
            Ok(1..) => Ok(Value::Integer(*number)),
            _ => Err(format!("{number} is not a port: 1 to 65535")),
        },
        (ValueType::Boolean, toml::Value::Boolean(truth)) => Ok(Value::Boolean(*truth)),
        (ValueType::Integer | ValueType::Port | ValueType::Boolean, other) => {
            Err(format!("expected {}, found {}", describe(value_type), other.type_str()))
        }
        (_, toml::Value::String(text)) => textual(value_type, text),
        (_, other) => Err(format!("expected {}, found {}", describe(value_type), other.type_str())),
    }
}

fn textual(value_type: &ValueType, text: &str) -> Result<Value, String> {
    let text = single_line(text).map_err(|refused| refused.0)?;
    let wrong = || format!("`{text}` is not {}", describe(value_type));
    let good = match value_type {
        ValueType::Cidr => cidr(text),
        ValueType::Address => text.parse::<IpAddr>().is_ok(),
        ValueType::Hostname => text.len() <= 253 && text.split('.').all(|label| Name::new(label).is_ok()),
        ValueType::Interface => interface(text),
        ValueType::Url => url(text),
        ValueType::Digest => text.parse::<crate::digest::Sha256>().is_ok(),
        ValueType::Choice(choices) => choices.iter().any(|choice| choice == text),
        ValueType::List => !text.split(',').any(|part| part.trim() != part),
        ValueType::String | ValueType::Integer | ValueType::Port | ValueType::Boolean => true,
    };
    // The empty text means "none" for every textual type but a choice: boot credentials can be left out.
    let none = text.is_empty() && !matches!(value_type, ValueType::Choice(_));
    if good || none { Ok(Value::Text(text.to_owned())) } else { Err(wrong()) }
}

fn cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let plain = length.bytes().all(|c| c.is_ascii_digit());
    match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => plain && length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => plain && length <= 128,
        _ => false,
    }
}

/// An interface's name or a pattern of systemd's `[Match] Name=`; 15 bytes is the kernel's limit (IFNAMSIZ).
fn interface(text: &str) -> bool {
    (1..=15).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.*?".contains(c))
}

fn url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', '"', '\'', '\\']))
}

/// The type in words, for refusals and for the generated reference.
#[must_use]
pub fn describe(value_type: &ValueType) -> String {
    match value_type {
        ValueType::String => "a text".into(),
        ValueType::Integer => "a whole number".into(),
        ValueType::Boolean => "`true` or `false`".into(),
        ValueType::Cidr => "an address with a prefix length such as `10.200.0.0/16`".into(),
        ValueType::Address => "an IP address such as `10.8.0.1`".into(),
        ValueType::Port => "a port from 1 to 65535".into(),
        ValueType::Hostname => "a host name such as `worker-1`".into(),
        ValueType::Interface => "an interface such as `ens2` or `en*`".into(),
        ValueType::Url => "a URL such as `https://10.8.0.1:8443`".into(),
        ValueType::Digest => "a SHA-256: 64 lower-case hexadecimal digits".into(),
        ValueType::Choice(choices) => {
            format!("one of {}", choices.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", "))
        }
        ValueType::List => "texts separated by commas, without spaces".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value_type: &ValueType, text: &str) -> bool {
        typed(value_type, &toml::Value::String(text.into())).is_ok()
    }

    #[test]
    fn each_type_takes_its_own_and_nothing_else() {
        assert!(text(&ValueType::Cidr, "10.200.0.0/16") && text(&ValueType::Cidr, "fd00::/64"));
        for bad in ["10.200.0.0", "10.200.0.0/33", "10.200.0.0/+8", "fd00::/129", "a/8"] {
            assert!(!text(&ValueType::Cidr, bad), "{bad}");
        }
        assert!(text(&ValueType::Url, "https://10.0.0.1:8443") && !text(&ValueType::Url, "file:///etc/shadow"));
        assert!(text(&ValueType::Hostname, "worker-1.example") && !text(&ValueType::Hostname, "a b"));
        assert!(text(&ValueType::Interface, "en*") && !text(&ValueType::Interface, "a-name-of-16-bytes"));
        assert!(!text(&ValueType::String, "a\nb") && !text(&ValueType::Boolean, "true"));
        assert!(typed(&ValueType::Port, &toml::Value::Integer(0)).is_err());
        assert!(typed(&ValueType::Port, &toml::Value::Integer(65536)).is_err());
        let choice = ValueType::Choice(vec!["nftables".into(), "iptables".into()]);
        assert!(text(&choice, "iptables") && !text(&choice, "ipvs") && !text(&choice, ""));
    }
}
