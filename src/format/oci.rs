//! OCI images: a tree as a layer, and the archive that carries it with its configuration, manifest and index.
//!
//! Formats: the OCI image specification 1.1 (layout, index, manifest, configuration, layer). One layer, compressed by
//! zstd: containerd takes plain, gzip and zstd, unpacks zstd several times faster than gzip on the two slow cores of a
//! small node, and it is smaller; `docker load` takes it since version 23. The layer is identified by the digest of the
//! tar before compression, so nothing but the transport depends on the compressor.
//!
//! ```text
//! oci-layout  index.json → blobs/sha256/<manifest> → blobs/sha256/<configuration>, blobs/sha256/<layer>
//!             manifest.json → the same configuration and layer
//! ```
//!
//! The last is Docker's own (`docker save`): with its usual store of layers, `docker load` looks at nothing else. Who
//! finds an `oci-layout` goes by that, as containerd does.

use crate::digest::{Hashing, Sha256};
use crate::error::{Blame as _, Fault, Kind, Result};
use crate::tree::{Node, Tree, What, show};
use bytes::Bytes;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use tar::{Builder, EntryType, Header};

/// zstd's level. A program of 77 MB: 20.1 MB in 0.9 CPU s at level 6, 19.5 in 1.6 at 9, 19.4 in 3.9 at 12.
const LEVEL: i32 = 9;
/// Threads that compress. A layer is cut into jobs by its size alone, so their number never shows in the bytes; more
/// would hold more of it in memory at once.
const THREADS: u32 = 2;

/// Bytes of a file that are read at once.
const PIECE: usize = 1 << 20;
/// What entries of a tar are filled up to, in bytes.
const BLOCK: u64 = 512;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// How a container is started; the names of the fields are the specification's.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// `uid:gid`.
    pub user: String,
    /// `53/udp` → nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Nothing>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments behind those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// An absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Label → value.
    pub labels: BTreeMap<String, String>,
    /// Such as `SIGQUIT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// An empty JSON object.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Nothing {}

/// A tree as a compressed layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Of the tar before compression: the layer's identity.
    pub diff_id: Sha256,
    /// Of the compressed bytes.
    digest: Sha256,
    /// Compressed.
    bytes: Bytes,
}

impl Layer {
    /// Its parts, for whoever keeps them.
    #[must_use]
    pub fn into_parts(self) -> Vec<Bytes> {
        vec![self.diff_id.0.to_vec().into(), self.digest.0.to_vec().into(), self.bytes]
    }

    /// The layer of [`Layer::into_parts`].
    ///
    /// # Errors
    /// [`Kind::Internal`] when the parts are no layer's.
    pub fn from_parts(parts: Vec<Bytes>) -> Result<Self> {
        let [diff_id, digest, bytes]: [Bytes; 3] =
            parts.try_into().map_err(|parts: Vec<_>| anyhow::anyhow!("a layer of {} parts", parts.len()))?;
        Ok(Self { diff_id: Sha256(diff_id.as_ref().try_into()?), digest: Sha256(digest.as_ref().try_into()?), bytes })
    }
}

/// What an image is called and holds.
#[derive(Debug)]
pub struct Image<'a> {
    /// `nodelith.dev/pause:1`.
    pub reference: &'a str,
    /// The part behind the colon.
    pub tag: &'a str,
    /// How it is started.
    pub config: &'a Config,
    /// Its files.
    pub layer: &'a Layer,
    /// Every time stamp, in seconds since 1970.
    pub epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

#[derive(Clone, Copy, Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
}

const PLATFORM: Platform = Platform { architecture: "amd64", os: "linux" };

#[derive(Serialize)]
struct Configuration<'a> {
    created: String,
    #[serde(flatten)]
    platform: Platform,
    config: &'a Config,
    rootfs: RootFs,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor<'a>,
    layers: [Descriptor<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: [Descriptor<'a>; 1],
}

/// What `manifest.json` lists of an image; paths are the archive's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved<'a> {
    config: String,
    repo_tags: [&'a str; 1],
    layers: [String; 1],
}

/// Names [`layer`] with all that decides its result besides the tree and the epoch, for whoever keeps results by
/// [`Tree::digest`]. A test holds the layer's bytes to the first number.
#[must_use]
pub fn layer_version() -> String {
    format!("layer-2-zstd-{}-{LEVEL}", zstd::zstd_safe::version_number())
}

/// Writes a tree as a layer: entries in the tree's order, every time stamp the epoch's.
///
/// # Errors
/// [`Kind::Build`] for what a layer cannot hold: devices, pipes, sockets, names that are not UTF-8 or mean a removal.
pub fn layer(tree: &Tree, epoch: u64) -> Result<Layer> {
    layer_by(THREADS, tree, epoch)
}

fn layer_by(threads: u32, tree: &Tree, epoch: u64) -> Result<Layer> {
    let starting = || "starting zstd".into();
    let mut compressor = zstd::Encoder::new(Vec::new(), LEVEL).blame(Kind::Internal, starting)?;
    compressor.multithread(threads).blame(Kind::Internal, starting)?;
    let mut tar = Builder::new(Hashing::new(compressor));
    let mut firsts: HashMap<&[u8], &[u8]> = HashMap::new();
    for (path, node) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        append(&mut tar, tree, (path, node), &mut firsts, epoch)
            .map_err(|error| error.context(format!("putting `{}` into the layer", show(path))))?;
    }
    let doing = || "ending the layer".into();
    let (compressor, diff_id, _) = tar.into_inner().blame(Kind::Internal, doing)?.finish();
    let bytes = compressor.finish().blame(Kind::Internal, doing)?;
    Ok(Layer { diff_id, digest: Sha256::of(&bytes), bytes: bytes.into() })
}

fn append<'a>(
    tar: &mut Builder<impl Write + Send>,
    tree: &'a Tree,
    (path, node): (&'a [u8], &'a Node),
    firsts: &mut HashMap<&'a [u8], &'a [u8]>,
    epoch: u64,
) -> Result<()> {
    let name = path.rsplit(|c| *c == b'/').next().unwrap_or_default();
    if name.starts_with(b".wh.") {
        // Whoever unpacks the layer would take it for the order to remove a file.
        return Err(Fault::new(Kind::Build, format!("`{}` is the name of a removal", show(path))).into());
    }
    // The first name of a file carries its bytes, whichever of them the package calls the link.
    let (original, node) = match &node.what {
        What::HardLink(target) => {
            let file = tree.get(target).filter(|node| matches!(node.what, What::File(_)));
            let why = || Fault::new(Kind::Build, format!("it links to `{}`, which is no regular file", show(target)));
            (target.as_slice(), file.ok_or_else(why)?)
        }
        _ => (path, node),
    };
    let (entry, content, link) = match &node.what {
        What::Directory => (EntryType::Directory, None, None),
        What::Symlink(target) => (EntryType::Symlink, None, Some(target.as_slice())),
        What::File(content) => match firsts.get(original) {
            Some(first) => (EntryType::Link, None, Some(*first)),
            None => {
                firsts.insert(original, path);
                (EntryType::Regular, Some(content), None)
            }
        },
        What::HardLink(_) | What::CharDevice(..) | What::BlockDevice(..) | What::Fifo | What::Socket => {
            return Err(Fault::new(Kind::Build, "a container holds files, directories and links only").into());
        }
    };
    let mut header = Header::new_ustar();
    header.set_entry_type(entry);
    header.set_mode(u32::from(node.mode & 0o7777));
    header.set_uid(node.uid.into());
    header.set_gid(node.gid.into());
    header.set_mtime(epoch);
    header.set_size(content.map_or(0, |content| content.size));
    let mut records = names(&mut header, path, link)?;
    for (key, value) in &node.xattrs {
        let key = std::str::from_utf8(key).blame(Kind::Build, || "reading an attribute's name".into())?;
        records.push((format!("SCHILY.xattr.{key}"), value.clone()));
    }
    let doing = || "writing it".into();
    tar.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
        .blame(Kind::Internal, doing)?;
    header.set_cksum();
    let out = tar.get_mut();
    out.write_all(header.as_bytes()).blame(Kind::Internal, doing)?;
    let Some(content) = content else { return Ok(()) };
    // In pieces: the compressor's threads hold enough of it already. A damaged content ends in an error, and no layer.
    content.read_by(PIECE, |piece| out.write_all(&piece).blame(Kind::Internal, doing))?;
    let padding = usize::try_from(content.size.next_multiple_of(BLOCK) - content.size)?;
    out.write_all(&[0; BLOCK as usize][..padding]).blame(Kind::Internal, doing)
}

/// Puts a path and a link's target into the header; what does not fit becomes a pax record.
fn names(header: &mut Header, path: &[u8], link: Option<&[u8]>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut records = Vec::new();
    let mut path = std::str::from_utf8(path).blame(Kind::Build, || "reading its name".into())?.to_owned();
    if header.entry_type() == EntryType::Directory {
        path.push('/');
    }
    let ustar = header.as_ustar_mut().ok_or_else(|| anyhow::anyhow!("a ustar header is none"))?;
    // Not the library's own setters: they take targets and names apart by the host's rules for paths.
    match path.len() {
        0..=100 => ustar.name[..path.len()].copy_from_slice(path.as_bytes()),
        _ => {
            ustar.name.copy_from_slice(&path.as_bytes()[..100]);
            records.push(("path".to_owned(), path.into_bytes()));
        }
    }
    if let Some(link) = link {
        let cut = link.len().min(100);
        ustar.linkname[..cut].copy_from_slice(&link[..cut]);
        if link.len() > 100 {
            std::str::from_utf8(link).blame(Kind::Build, || "reading its target".into())?;
            records.push(("linkpath".to_owned(), link.to_vec()));
        }
    }
    Ok(records)
}

/// Writes the archive; returns the manifest's digest, which identifies the image.
///
/// # Errors
/// [`Kind::Environment`] when the sink refuses.
pub fn archive(image: &Image<'_>, sink: impl Write) -> Result<Sha256> {
    let Image { reference, tag, config, layer, epoch } = *image;
    let configuration = serde_json::to_vec(&Configuration {
        created: rfc3339(epoch),
        platform: PLATFORM,
        config,
        rootfs: RootFs { kind: "layers", diff_ids: [named(&layer.diff_id)] },
    })?;
    let configuration = Blob::new(&configuration);
    let layer = Blob { digest: layer.digest, bytes: &layer.bytes };
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: configuration.described(CONFIG),
        layers: [layer.described(LAYER)],
    })?;
    let manifest = Blob::new(&manifest);
    let mut described = manifest.described(MANIFEST);
    // The first is what containerd calls the image; the second is what other tools select by.
    described.annotations =
        [("io.containerd.image.name", reference), ("org.opencontainers.image.ref.name", tag)].into();
    described.platform = Some(PLATFORM);
    let index = serde_json::to_vec(&Index { schema_version: 2, media_type: INDEX, manifests: [described] })?;

    let saved = Saved { config: configuration.path(), repo_tags: [reference], layers: [layer.path()] };
    let saved = serde_json::to_vec(&[saved])?;
    let blobs = [configuration, manifest, layer].map(|blob| (blob.path(), blob.bytes));
    let mut entries: BTreeMap<&str, &[u8]> = blobs.iter().map(|(path, bytes)| (path.as_str(), *bytes)).collect();
    entries.extend([("blobs/", &b""[..]), ("blobs/sha256/", b""), ("index.json", &index), ("manifest.json", &saved)]);
    entries.insert("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    write(entries, epoch, sink).blame(Kind::Environment, || "writing the archive".into())?;
    Ok(manifest.digest)
}

/// Bytes that others name by their digest.
#[derive(Clone, Copy)]
struct Blob<'a> {
    digest: Sha256,
    bytes: &'a [u8],
}

impl<'a> Blob<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { digest: Sha256::of(bytes), bytes }
    }

    /// Where it stands in an archive.
    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn described<'b>(&self, media_type: &'static str) -> Descriptor<'b> {
        let (digest, size) = (named(&self.digest), self.bytes.len() as u64);
        Descriptor { media_type, digest, size, annotations: BTreeMap::new(), platform: None }
    }
}

fn write(entries: BTreeMap<&str, &[u8]>, epoch: u64, sink: impl Write) -> io::Result<()> {
    let mut tar = Builder::new(sink);
    for (path, bytes) in entries {
        let mut header = Header::new_ustar();
        let directory = path.ends_with('/');
        header.set_entry_type(if directory { EntryType::Directory } else { EntryType::Regular });
        header.set_mode(if directory { 0o755 } else { 0o644 });
        header.set_mtime(epoch);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(bytes.len() as u64);
        header.set_path(path)?;
        header.set_cksum();
        tar.append(&header, bytes)?;
    }
    tar.into_inner()?.flush()
}

fn named(digest: &Sha256) -> String {
    format!("sha256:{digest}")
}

/// Seconds since 1970 as RFC 3339 writes a date and time, by the civil-from-days rule of the proleptic Gregorian calendar.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

mod read;

pub use read::measure;

#[cfg(test)]
mod tests;
