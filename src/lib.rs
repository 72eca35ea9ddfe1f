//! nodelith builds immutable Kubernetes node images, boots them and proves what they claim.
//!
//! Nouns are data, verbs are stages; a module may use only modules that stand **below** it in this table, which
//! `tests/house_rules.rs` reads and holds:
//!
//! | module | what it owns |
//! |---|---|
//! | `cli` | one file per verb; the only place that prints |
//! | `pipeline` | the story: lock, build, test as a list of stages |
//! | `verify` | an image against its manifest, two builds against each other |
//! | `trial` | image + claims → verdict |
//! | `standing` | whether what stands in `out/` is what its inputs would make now |
//! | `image` | tree → EROFS → verity → UKI → disk; a container's tree → OCI archive |
//! | `assemble` | packages, roles, accounts, units → tree |
//! | `fetch` | locked → fetched: every object verified and in the store |
//! | `resolve` | spec + indexes → lock; the only stage that chooses |
//! | `cluster` | machines that belong together: what they are told, and a live one under its supervisor |
//! | `lab` | QEMU machines, the switch between them, their consoles |
//! | `remote` | HTTP with retries, mirrors; step-ca and the API server |
//! | `token` | one-time join tokens and the keys that sign them |
//! | `store` | content-addressed objects on disk |
//! | `format` | bytes ↔ types, pure |
//! | `manifest` | what was built from what |
//! | `tree` | a file system as a value |
//! | `lock` | the pinned inputs |
//! | `spec` | specs and roles, as typed and as meant |
//! | `sys` | host files and programs |
//! | `report` | what stages tell whoever watches |
//! | `error` | whose fault, which exit code, what to try |
//! | `digest` | SHA-256 |
//! | `text` | strings that refuse |

pub mod assemble;
pub mod cli;
pub mod cluster;
pub mod digest;
pub mod error;
pub mod fetch;
pub mod format;
pub mod image;
pub mod lab;
pub mod lock;
pub mod manifest;
pub mod pipeline;
pub mod remote;
pub mod report;
pub mod resolve;
pub mod spec;
pub mod standing;
pub mod store;
pub mod sys;
pub mod text;
pub mod token;
pub mod tree;
pub mod trial;
pub mod verify;
