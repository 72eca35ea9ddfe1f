//! Values against their types: what a variable may hold, and how a refusal says what to write instead.

use super::role::{Value, ValueType};
use super::skew::Version;
use crate::text::{Name, single_line};
use std::net::IpAddr;

/// Takes a TOML value as a value of a type. The empty text is none, of every textual type but a choice, where there may
/// be `none`.
///
/// # Errors
/// The reason, for the user.
pub(super) fn typed(value_type: &ValueType, value: &toml::Value, none: bool) -> Result<Value, String> {
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
        (_, toml::Value::String(text)) if text.is_empty() && !matches!(value_type, ValueType::Choice(_)) => {
            match none {
                true => Ok(Value::Text(String::new())),
                false => Err(format!("empty, where {} is needed", describe(value_type))),
            }
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
        ValueType::Version => Version::parse(text).is_some(),
        ValueType::Switches(switches) => return switches.check(text).map(|()| Value::Text(text.to_owned())),
        ValueType::List => !text.split(',').any(|part| part.trim() != part),
        ValueType::String | ValueType::Integer | ValueType::Port | ValueType::Boolean => true,
    };
    if good { Ok(Value::Text(text.to_owned())) } else { Err(wrong()) }
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

/// A network, or one address as the smallest of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    /// The address's bits, left-aligned in 128.
    bits: u128,
    length: u32,
    six: bool,
}

impl Network {
    /// Reads `10.0.0.0/8`, `10.0.0.1`, or the same of IPv6.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let (bits, six) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, false),
            IpAddr::V6(address) => (u128::from(address), true),
        };
        let full = if six { 128 } else { 32 };
        let length = length.map_or(Some(full), |length| length.parse().ok().filter(|length| *length <= full))?;
        Some(Self { bits, length, six })
    }

    /// Whether all of the other lies in this one.
    pub(super) fn contains(&self, other: &Self) -> bool {
        // A shift by all 128 bits is none: a network of length 0 holds everything.
        let differing = (self.bits ^ other.bits).checked_shr(128 - self.length).unwrap_or(0);
        self.six == other.six && self.length <= other.length && differing == 0
    }

    /// Whether they have an address in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }
}

/// The first address of a network that a machine may have: `10.32.0.1` of `10.32.0.0/16`.
///
/// # Errors
/// When the text is no network, or one of a single address.
pub fn first_address(network: &str) -> Result<String, String> {
    let wrong = || format!("`{network}` is not a network with a first address");
    let Network { bits, length, six } = Network::parse(network).ok_or_else(wrong)?;
    let full = if six { 128 } else { 32 };
    if length >= full {
        return Err(wrong());
    }
    let base = bits & (u128::MAX << 1 << (127 - length));
    let first = base | 1 << (128 - full);
    let bytes = first.to_be_bytes();
    Ok(match six {
        true => std::net::Ipv6Addr::from(bytes).to_string(),
        false => std::net::Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).to_string(),
    })
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
        ValueType::Version => "a version such as `1.37`".into(),
        ValueType::Switches(_) => "switches such as `MemoryQoS=true`, separated by commas, without spaces".into(),
        ValueType::List => "texts separated by commas, without spaces".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_know_what_lies_in_them_and_their_first_address() {
        let network = |text| Network::parse(text).unwrap();
        let contains = |a, b| network(a).contains(&network(b));
        assert!(contains("10.32.0.0/16", "10.32.255.254") && !contains("10.32.0.0/16", "10.33.0.1"));
        assert!(contains("0.0.0.0/0", "255.0.0.1") && contains("::/0", "fd00::/8") && !contains("::/0", "10.0.0.1"));
        assert!(!contains("10.0.0.0/16", "10.0.0.0/8") && network("10.0.0.0/16").overlaps(&network("10.0.0.0/8")));
        // The host part of an address with a length does not count.
        assert!(network("10.8.0.11/24").overlaps(&network("10.8.0.200/32")));
        assert!(!network("10.8.0.11/24").overlaps(&network("10.8.1.0/24")));
        assert_eq!(first_address("10.32.0.0/16").unwrap(), "10.32.0.1");
        assert_eq!(first_address("10.32.7.9/16").unwrap(), "10.32.0.1");
        assert_eq!(first_address("fd00:1::/112").unwrap(), "fd00:1::1");
        assert_eq!(first_address("0.0.0.0/0").unwrap(), "0.0.0.1");
        assert!(
            first_address("10.0.0.1/32").is_err() && first_address("a").is_err() && first_address("fd00::1").is_err()
        );
    }

    fn text(value_type: &ValueType, text: &str) -> bool {
        typed(value_type, &toml::Value::String(text.into()), false).is_ok()
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
        assert!(typed(&ValueType::Port, &toml::Value::Integer(0), false).is_err());
        assert!(typed(&ValueType::Port, &toml::Value::Integer(65536), false).is_err());
        let choice = ValueType::Choice(vec!["nftables".into(), "iptables".into()]);
        assert!(text(&choice, "iptables") && !text(&choice, "ipvs") && !text(&choice, ""));
        let empty = |value_type: &ValueType, none| typed(value_type, &toml::Value::String(String::new()), none).is_ok();
        for value_type in [ValueType::String, ValueType::Address, ValueType::List, ValueType::Version] {
            assert!(empty(&value_type, true) && !empty(&value_type, false), "{value_type:?}");
        }
        assert!(!empty(&choice, true) && !empty(&ValueType::Port, true));
    }
}
