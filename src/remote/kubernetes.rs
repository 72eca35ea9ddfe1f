//! The little of the Kubernetes API that a lab needs: which nodes there are, and whether they are Ready.

use super::step_ca::{body, send};
use super::tls::{Identity, Server, Trust, client};
use crate::error::{Fault, Kind, Result};
use serde_json::Value;

/// An API server, and who asks it.
#[derive(Debug)]
pub struct Api {
    client: reqwest::blocking::Client,
    url: String,
}

/// A node as the API server sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its condition `Ready`.
    pub ready: bool,
    /// The kubelet's version.
    pub version: String,
}

impl Api {
    /// A client that trusts one root and shows a certificate.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when root, certificate or key cannot be read.
    pub fn new(server: &Server, root: &str, identity: &Identity) -> Result<Self> {
        Ok(Self { client: client(server, &Trust::Root(root), Some(identity))?, url: server.url() })
    }

    /// All nodes.
    ///
    /// # Errors
    /// [`Kind::Network`] when the API server does not answer; [`Kind::Environment`] when it refuses.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let answer =
            send(self.client.get(format!("{}/api/v1/nodes", self.url)), "asking the API server for its nodes")?;
        if !answer.status().is_success() {
            let why = format!("the API server answered {}", answer.status());
            return Err(Fault::new(Kind::Environment, why).into());
        }
        Ok(parse(&body(answer)?))
    }
}

/// Reads a NodeList (v1).
fn parse(list: &Value) -> Vec<Node> {
    let text = |value: &Value, place: &str| value.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ready = |node: &Value| {
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
    };
    let nodes = list["items"].as_array().into_iter().flatten();
    nodes
        .map(|node| Node {
            name: text(node, "/metadata/name"),
            ready: ready(node),
            version: text(node, "/status/nodeInfo/kubeletVersion"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_condition_ready_makes_a_node_ready() {
        let list: Value = serde_json::from_str(
            r#"{"items": [
                {"metadata": {"name": "a"}, "status": {"nodeInfo": {"kubeletVersion": "v1.37.0"},
                 "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "False"}]}},
                {"metadata": {"name": "b"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
                {"metadata": {"name": "c"}}]}"#,
        )
        .unwrap();
        let nodes = parse(&list);
        assert_eq!(nodes.iter().map(|node| node.ready).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!((nodes[0].name.as_str(), nodes[0].version.as_str()), ("a", "v1.37.0"));
        assert!(parse(&Value::Null).is_empty());
    }
}
