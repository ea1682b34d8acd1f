//! Writes small files of places (mmdb 2.0), byte by byte after the format's description: no crate that
//! writes them is kept up.

use std::net::IpAddr;

/// What the last section begins behind.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// A record of the tree that leads nowhere.
const NOTHING: u32 = u32::MAX;
/// When such a file says that it was built: 2026-01-01.
pub(crate) const BUILT_S: u64 = 1_767_225_600;

/// A value of a record.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Degrees(f64),
    Short(u16),
    Long(u32),
    Count(u64),
    Map(Vec<(&'static str, Value)>),
    List(Vec<Value>),
}

/// A text.
pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// As MaxMind has cities.
pub(crate) fn city(country: &str, latitude: f64, longitude: f64) -> Value {
    let location = vec![
        ("latitude", Value::Degrees(latitude)),
        ("longitude", Value::Degrees(longitude)),
    ];
    let country = vec![("iso_code", text(country))];
    Value::Map(vec![("country", Value::Map(country)), ("location", Value::Map(location))])
}

/// Only the country, as MaxMind has it.
pub(crate) fn country(code: &str) -> Value {
    Value::Map(vec![("country", Value::Map(vec![("iso_code", text(code))]))])
}

/// A file that says this of networks of both families, in any order.
pub(crate) fn file(kind: &str, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut tree = vec![[NOTHING; 2]];
    let mut data = Vec::new();
    let mut leaves: Vec<(usize, usize, usize)> = Vec::new();
    for (network, value) in networks {
        let (bits, len) = bits(network);
        let mut node = 0;
        for at in 0..len {
            let side = usize::from(bits >> (127 - at) & 1 == 1);
            if at + 1 == len {
                leaves.push((node, side, data.len()));
            } else if tree[node][side] == NOTHING {
                tree.push([NOTHING; 2]);
                tree[node][side] = u32::try_from(tree.len() - 1).unwrap();
                node = tree.len() - 1;
            } else {
                node = usize::try_from(tree[node][side]).unwrap();
            }
        }
        write(value, &mut data);
    }
    let nodes = u32::try_from(tree.len()).unwrap();
    for (node, side, offset) in leaves {
        tree[node][side] = nodes + 16 + u32::try_from(offset).unwrap();
    }
    let mut file = Vec::new();
    for record in tree.into_iter().flatten() {
        let record = if record == NOTHING { nodes } else { record };
        file.extend(&record.to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(MARKER);
    let description = vec![("en", text("places for tests"))];
    let metadata = Value::Map(vec![
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Count(BUILT_S)),
        ("database_type", text(kind)),
        ("description", Value::Map(description)),
        ("ip_version", Value::Short(6)),
        ("languages", Value::List(vec![text("en")])),
        ("node_count", Value::Long(nodes)),
        ("record_size", Value::Short(24)),
    ]);
    write(&metadata, &mut file);
    file
}

/// A network's bits in the tree, in which IPv4 lies at `::/96`.
fn bits(network: &str) -> (u128, usize) {
    let (address, len) = network.split_once('/').unwrap();
    let len: usize = len.parse().unwrap();
    match address.parse().unwrap() {
        IpAddr::V4(address) => (u128::from(address.to_bits()), len + 96),
        IpAddr::V6(address) => (address.to_bits(), len),
    }
}

fn write(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            head(2, text.len(), to);
            to.extend(text.as_bytes());
        }
        Value::Degrees(degrees) => {
            head(3, 8, to);
            to.extend(degrees.to_be_bytes());
        }
        Value::Short(count) => {
            head(5, 2, to);
            to.extend(count.to_be_bytes());
        }
        Value::Long(count) => {
            head(6, 4, to);
            to.extend(count.to_be_bytes());
        }
        Value::Count(count) => {
            head(9, 8, to);
            to.extend(count.to_be_bytes());
        }
        Value::Map(entries) => {
            head(7, entries.len(), to);
            for (key, value) in entries {
                write(&text(key), to);
                write(value, to);
            }
        }
        Value::List(values) => {
            head(11, values.len(), to);
            values.iter().for_each(|value| write(value, to));
        }
    }
}

/// The kind of a value and its length, at most 284.
fn head(kind: u8, len: usize, to: &mut Vec<u8>) {
    let (short, long) = if len < 29 { (len, None) } else { (29, Some(len - 29)) };
    let short = u8::try_from(short).unwrap();
    if kind <= 7 {
        to.push(kind << 5 | short);
    } else {
        to.extend([short, kind - 7]);
    }
    to.extend(long.map(|long| u8::try_from(long).unwrap()));
}
