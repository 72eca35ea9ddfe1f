//! Archives, taken apart again by other readers: the `tar` crate, zstd, and the types of `oci-spec`.

use super::*;
use crate::error::kind_of;
use crate::tree::Content;
use oci_spec::image::{Descriptor as Described, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

const EPOCH: u64 = 1_795_478_400;

fn origin() -> Arc<str> {
    Arc::from("test")
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.file("usr/bin/tool", 0o755, "#!tool", &origin()).unwrap();
    tree.put("a-link", Node::new(What::HardLink(b"usr/bin/tool".to_vec()), 0, &origin())).unwrap();
    tree.symlink("bin", "usr/bin", &origin()).unwrap();
    let mut node = Node::new(What::File(Content::from_bytes(b"2".to_vec())), 0o640, &origin());
    (node.uid, node.gid) = (65_532, 100_000);
    node.xattrs.insert(b"user.note".to_vec(), vec![0, 1, b'\n']);
    tree.put("etc/owned", node).unwrap();
    tree
}

fn config() -> Config {
    Config {
        user: "65532:65532".into(),
        exposed_ports: BTreeMap::from([("53/udp".into(), Nothing {})]),
        env: vec!["PATH=/usr/bin".into()],
        entrypoint: vec!["/usr/bin/tool".into()],
        cmd: vec!["-x".into()],
        working_dir: Some("/tmp".into()),
        labels: BTreeMap::from([("org.opencontainers.image.title".into(), "tool".into())]),
        stop_signal: Some("SIGQUIT".into()),
    }
}

fn archived(layer: &Layer) -> (Vec<u8>, Sha256) {
    let image = Image { reference: "nodelith.dev/tool:1", tag: "1", config: &config(), layer, epoch: EPOCH };
    let mut bytes = Vec::new();
    let digest = archive(&image, &mut bytes).unwrap();
    (bytes, digest)
}

/// Path → bytes of an archive's files.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), EPOCH);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if entry.header().entry_type().is_file() {
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
        }
    }
    files
}

/// What a descriptor points at, checked against it.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Described) -> &'a [u8] {
    let bytes = &files[&format!("blobs/sha256/{}", descriptor.digest().digest())];
    assert_eq!(descriptor.digest().digest(), Sha256::of(bytes).to_string());
    assert_eq!(descriptor.size(), bytes.len() as u64);
    bytes
}

#[test]
fn every_reference_leads_to_what_it_says() {
    let layer = layer(&tree(), EPOCH).unwrap();
    let (bytes, digest) = archived(&layer);
    let files = files(&bytes);
    assert_eq!(files.len(), 6);
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);

    let index = ImageIndex::from_reader(files["index.json"].as_slice()).unwrap();
    let [described] = index.manifests().as_slice() else { panic!("one manifest") };
    assert_eq!(described.digest().digest(), digest.to_string());
    assert_eq!(described.media_type(), &MediaType::ImageManifest);
    let names = described.annotations().as_ref().unwrap();
    assert_eq!(names["io.containerd.image.name"], "nodelith.dev/tool:1");
    assert_eq!(names["org.opencontainers.image.ref.name"], "1");

    let manifest = ImageManifest::from_reader(blob(&files, described)).unwrap();
    let [one] = manifest.layers().as_slice() else { panic!("one layer") };
    assert_eq!(one.media_type(), &MediaType::ImageLayerZstd);
    let tar = zstd::decode_all(blob(&files, one)).unwrap();
    assert_eq!(Sha256::of(&tar), layer.diff_id);

    let image = ImageConfiguration::from_reader(blob(&files, manifest.config())).unwrap();
    assert_eq!(image.rootfs().diff_ids(), &[format!("sha256:{}", layer.diff_id)]);
    assert_eq!(image.created().as_deref(), Some("2026-11-24T00:00:00Z"));
    let started = image.config().as_ref().unwrap();
    assert_eq!(started.user().as_deref(), Some("65532:65532"));
    assert_eq!(started.entrypoint().as_ref().unwrap(), &["/usr/bin/tool"]);
    assert_eq!(started.cmd().as_ref().unwrap(), &["-x"]);
    assert_eq!(started.env().as_ref().unwrap(), &["PATH=/usr/bin"]);
    assert_eq!(started.exposed_ports().as_ref().unwrap(), &["53/udp"]);
    assert_eq!(started.working_dir().as_deref(), Some("/tmp"));
    assert_eq!(started.stop_signal().as_deref(), Some("SIGQUIT"));
    assert_eq!(started.labels().as_ref().unwrap()["org.opencontainers.image.title"], "tool");
    assert_eq!(archived(&layer), (bytes, digest), "equal images, equal bytes");
}

/// Docker's classic store of images reads this file and no other; it knows the image by the configuration's digest.
#[test]
fn docker_is_led_to_the_same_configuration_and_layer() {
    let layer = layer(&tree(), EPOCH).unwrap();
    let files = files(&archived(&layer).0);
    let saved: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let [image] = saved.as_array().unwrap().as_slice() else { panic!("one image") };
    assert_eq!(image["RepoTags"], serde_json::json!(["nodelith.dev/tool:1"]));
    let [path] = image["Layers"].as_array().unwrap().as_slice() else { panic!("one layer") };
    let tar = zstd::decode_all(files[path.as_str().unwrap()].as_slice()).unwrap();
    let configuration = files[image["Config"].as_str().unwrap()].as_slice();
    let configuration = ImageConfiguration::from_reader(configuration).unwrap();
    assert_eq!(configuration.rootfs().diff_ids(), &[format!("sha256:{}", Sha256::of(&tar))]);
}

#[test]
fn a_layer_holds_the_tree_in_order_with_its_owners() {
    let packed = layer(&tree(), EPOCH).unwrap();
    assert_eq!(packed, layer(&tree(), EPOCH).unwrap());
    let tar = zstd::decode_all(packed.bytes.as_ref()).unwrap();
    let mut found = Vec::new();
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let link = entry.link_name_bytes().map(|link| String::from_utf8(link.into_owned()).unwrap());
        let records = entry.pax_extensions().unwrap().map(|records| records.count()).unwrap_or_default();
        let header = entry.header();
        assert_eq!(header.mtime().unwrap(), EPOCH);
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        found.push((entry.path().unwrap().display().to_string(), header.mode().unwrap(), owner, link, bytes, records));
    }
    let names: Vec<_> = found.iter().map(|entry| entry.0.as_str()).collect();
    assert_eq!(names, ["a-link", "bin", "etc/", "etc/owned", "usr/", "usr/bin/", "usr/bin/tool"]);
    assert_eq!((found[0].1, found[0].4.as_slice()), (0o755, &b"#!tool"[..]), "the first name has the bytes");
    assert_eq!(found[6].3.as_deref(), Some("a-link"), "the other is a link to it");
    assert_eq!(found[1].3.as_deref(), Some("usr/bin"));
    assert_eq!((found[3].1, found[3].2, found[3].5), (0o640, (65_532, 100_000), 1));
}

/// Whoever changes what a layer holds changes the number in [`layer_version`], and then this digest.
#[test]
fn the_layer_is_that_of_its_version_and_survives_being_kept() {
    assert!(layer_version().starts_with("layer-2-"));
    let packed = layer(&tree(), EPOCH).unwrap();
    let diff_id = "56781eedb3ccc9dbf75a1946f7ee54a4a901acb8a63c595fc3be398d0960ec4a";
    assert_eq!(packed.diff_id.to_string(), diff_id);
    assert_eq!(Layer::from_parts(packed.clone().into_parts()).unwrap(), packed);
    assert!(Layer::from_parts(vec![packed.bytes.clone()]).is_err());
    assert!(Layer::from_parts(vec![packed.bytes.clone(), packed.bytes]).is_err());
}

/// zstd cuts 40 MiB into several jobs.
#[test]
fn the_number_of_threads_does_not_show() {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    };
    let mut tree = Tree::new();
    tree.file("big", 0o644, (0..40 << 20).map(|_| next()).collect::<Vec<_>>(), &origin()).unwrap();
    let one = layer_by(1, &tree, EPOCH).unwrap();
    assert_eq!(layer_by(3, &tree, EPOCH).unwrap(), one);
    assert_eq!(Sha256::of(&zstd::decode_all(one.bytes.as_ref()).unwrap()), one.diff_id);
}

#[test]
fn long_names_and_targets_come_back_whole() {
    let (path, target) = (["d"; 60].join("/") + "/file", "../".repeat(60) + "x");
    let mut tree = Tree::new();
    tree.file(&path, 0o644, "1", &origin()).unwrap();
    tree.symlink(&format!("{path}.link"), &target, &origin()).unwrap();
    let tar = zstd::decode_all(layer(&tree, EPOCH).unwrap().bytes.as_ref()).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let last: Vec<_> = archive.entries().unwrap().map(Result::unwrap).skip(60).collect();
    assert_eq!(last[0].path().unwrap().as_os_str().as_bytes(), path.as_bytes());
    assert_eq!(last[1].link_name_bytes().unwrap().as_ref(), target.as_bytes());
}

#[test]
fn what_a_layer_cannot_hold_or_would_mean_something_else_is_refused() {
    let bad: [(&[u8], What); 6] = [
        (b"etc/.wh.passwd", What::File(Content::from_bytes(Vec::new()))),
        (b"etc/.wh..wh..opq", What::Directory),
        (b"dev/null", What::CharDevice(1, 3)),
        (b"run/pipe", What::Fifo),
        (b"etc/\xff", What::Directory),
        (b"etc/link", What::HardLink(b"etc".to_vec())),
    ];
    for (path, what) in bad {
        let mut tree = tree();
        tree.put(path, Node::new(what, 0o644, &origin())).unwrap();
        let error = layer(&tree, EPOCH).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Build, "{}", show(path));
        assert!(format!("{error:#}").contains(&show(path)), "{error:#}");
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (EPOCH + 86_399, "2026-11-24T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(rfc3339(seconds), text);
    }
}

#[test]
fn what_a_layer_holds_is_measured_and_damage_is_told() {
    let (bytes, _) = archived(&layer(&tree(), EPOCH).unwrap());
    let sizes: Vec<_> = measure(&bytes).unwrap().into_iter().map(|(path, size)| (show(&path), size)).collect();
    // The hard link stands before what it is linked to, so its name has the content.
    assert_eq!(sizes.iter().map(|(_, size)| size).sum::<u64>(), 7);
    assert_eq!(sizes.len(), 2, "{sizes:?}");
    assert!(sizes.contains(&("etc/owned".to_owned(), 1)), "{sizes:?}");
    let other = bytes.windows(8).position(|window| window == b"tar+zstd").unwrap();
    let mut kind = bytes.clone();
    kind[other] = b'T';
    for bad in [&bytes[..bytes.len() / 2], &bytes[..1000], b"", &kind] {
        assert_eq!(kind_of(&measure(bad).unwrap_err()), Kind::Integrity);
    }
}
