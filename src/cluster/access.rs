//! The operator's way in: a key made here, a certificate from the cluster's own CA for a one-time token, and both in a
//! kubeconfig that a stock kubectl understands.

use super::authority::Authority;
use super::plan::{Plan, Seat};
use crate::error::{Blame, Fault, Kind, Result};
use crate::remote::kubernetes::{Api, Node};
use crate::remote::step_ca::StepCa;
use crate::remote::{Identity, Server};
use crate::sys::{clock, fs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

/// The name in the operator's certificate.
const OPERATOR: &str = "operator";
/// How often the CA is asked; a translated machine that has just joined is still busy.
const ATTEMPTS: u32 = 5;
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(3);

/// Makes `kubeconfig` in the cluster's directory, mode 0600.
///
/// # Errors
/// [`Kind::Network`] when the CA does not answer; [`Kind::Integrity`] when it is another one than ours.
pub fn kubeconfig(dir: &Path, plan: &Plan, authority: &Authority) -> Result<()> {
    let (Some(kind), Some(controller)) = (&plan.admin, plan.controller()) else { return Ok(()) };
    let doing = || "making the operator's key and request".to_owned();
    let sans = [OPERATOR.to_owned()];
    let identity = crate::remote::step_ca::request(OPERATOR, &sans).blame(Kind::Internal, doing)?;
    let mut tried = 0;
    let (chain, root) = loop {
        tried += 1;
        // A token is spent when it is shown, so each attempt has its own.
        let token = authority.token(
            kind,
            OPERATOR,
            &sans,
            (&format!("https://{}:{}", controller.address, super::CA_PORT), clock::now()),
        )?;
        let asked = StepCa::pin(&server(plan, "ca")?, authority.fingerprint())
            .and_then(|ca| Ok((ca.sign(&identity, &token)?, ca.root().to_owned())));
        match asked {
            Ok(answer) => break answer,
            Err(error) if tried == ATTEMPTS || crate::error::kind_of(&error) != Kind::Network => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    let port = plan.port("api").ok_or_else(|| Fault::new(Kind::Internal, "there is no port of the API server"))?;
    let text = render(port, &controller.name, &root, &Identity { chain, key: identity.key().to_owned() });
    fs::write_secret(&dir.join("kubeconfig"), text.as_bytes())
}

fn server(plan: &Plan, port: &str) -> Result<Server> {
    let missing = || Fault::new(Kind::Internal, format!("the plan has no port `{port}`"));
    let controller = plan.controller().ok_or_else(missing)?;
    let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, plan.port(port).ok_or_else(missing)?);
    Ok(Server { name: controller.name.clone(), at: at.into() })
}

/// A kubeconfig (kubernetes.io/docs/reference/config-api, v1 Config). JSON, which every YAML reader reads.
fn render(port: u16, name: &str, root: &str, identity: &Identity) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "nodelith",
        "contexts": [{ "name": "nodelith", "context": { "cluster": "nodelith", "user": OPERATOR } }],
        "clusters": [{ "name": "nodelith", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            // The server's certificate is for its own name, not for this machine's loopback.
            "tls-server-name": name,
            "certificate-authority-data": STANDARD.encode(root),
        } }],
        "users": [{ "name": OPERATOR, "user": {
            "client-certificate-data": STANDARD.encode(&identity.chain),
            "client-key-data": STANDARD.encode(&identity.key),
        } }],
    });
    format!("{config:#}\n")
}

/// Whether a machine becomes a node of Kubernetes.
pub(super) fn is_node(plan: &Plan, seat: &Seat) -> bool {
    plan.admin.is_some() && seat.certificates.iter().any(|(_, kind)| kind == "kubelet")
}

/// What the API server says of its nodes, asked with the kubeconfig.
///
/// # Errors
/// [`Kind::Environment`] when there is no kubeconfig; [`Kind::Network`] when the API server does not answer.
pub fn nodes(dir: &Path, plan: &Plan) -> Result<Vec<Node>> {
    let path = dir.join("kubeconfig");
    let wrong = || Fault::new(Kind::Environment, format!("{} is not one of ours", path.display()));
    let text = fs::read_text(&path)?;
    let config: serde_json::Value = serde_json::from_str(&text).map_err(|_| wrong())?;
    let data = |place: &str| -> Result<String> {
        let coded = config.pointer(place).and_then(serde_json::Value::as_str).ok_or_else(wrong)?;
        let bytes = STANDARD.decode(coded).map_err(|_| wrong())?;
        Ok(String::from_utf8(bytes).map_err(|_| wrong())?)
    };
    let identity =
        Identity { chain: data("/users/0/user/client-certificate-data")?, key: data("/users/0/user/client-key-data")? };
    let root = data("/clusters/0/cluster/certificate-authority-data")?;
    Api::new(&server(plan, "api")?, &root, &identity)?.nodes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_names_the_loopback_and_checks_the_controllers_name() {
        let identity = Identity { chain: "CHAIN".into(), key: "KEY".into() };
        let text = render(7001, "controller", "ROOT", &identity);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cluster = &value["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], "https://127.0.0.1:7001");
        assert_eq!(cluster["tls-server-name"], "controller");
        assert_eq!(cluster["certificate-authority-data"], STANDARD.encode("ROOT"));
        assert_eq!(value["users"][0]["user"]["client-key-data"], STANDARD.encode("KEY"));
    }
}
