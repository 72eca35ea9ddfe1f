//! One-time join tokens, made offline: JSON web tokens (RFC 7519) signed by ES256 as step-ca's JWK provisioners take
//! them, and the keys (RFC 7517) that sign them. Pure: the caller brings entropy and the time.

use crate::error::{Fault, Kind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use std::fmt;

/// A provisioner's key: P-256, named by its RFC 7638 thumbprint.
#[derive(Clone)]
pub struct Key {
    secret: SigningKey,
    x: String,
    y: String,
    kid: String,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims<'a> {
    /// The provisioner's name at the CA, which fixes the kind of certificate.
    pub provisioner: &'a str,
    /// The common name that the request must ask for.
    pub subject: &'a str,
    /// The names and addresses that the request must ask for, exactly.
    pub sans: &'a [String],
    /// The CA's URL without a path, such as `https://10.8.0.10:8443`.
    pub ca: &'a str,
    /// SHA-256 of the CA's root certificate, in hexadecimal.
    pub fingerprint: &'a str,
    /// From when, in seconds since 1970.
    pub issued: u64,
    /// For how many seconds.
    pub lifetime: u64,
}

impl Key {
    /// A key from 32 random bytes.
    ///
    /// # Errors
    /// When they are no key, one chance in 2³²: take other ones.
    pub fn from_entropy(entropy: &[u8; 32]) -> Result<Self> {
        let wrong = |_| Fault::new(Kind::Internal, "these 32 bytes are no P-256 key");
        Ok(Self::new(SigningKey::from_slice(entropy).map_err(wrong)?))
    }

    /// Reads a private JSON web key.
    ///
    /// # Errors
    /// [`Kind::Usage`] when the text is not one, without showing it.
    pub fn from_jwk(text: &str) -> Result<Self> {
        let wrong =
            |why: &str| Fault::new(Kind::Usage, format!("the provisioner key is not a private P-256 JWK: {why}"));
        let jwk: Value = serde_json::from_str(text).map_err(|_| wrong("it is not JSON"))?;
        let field = |name: &str| jwk.get(name).and_then(Value::as_str);
        if field("kty") != Some("EC") || field("crv") != Some("P-256") {
            return Err(wrong("`kty` and `crv` must be `EC` and `P-256`").into());
        }
        let secret = field("d").ok_or_else(|| wrong("`d` is missing; this is a public key"))?;
        let secret = URL_SAFE_NO_PAD.decode(secret).map_err(|_| wrong("`d` is not base64url"))?;
        let key = Self::new(SigningKey::from_slice(&secret).map_err(|_| wrong("`d` is not a key"))?);
        if field("x") != Some(&key.x) || field("y") != Some(&key.y) {
            return Err(wrong("`x` and `y` do not belong to `d`").into());
        }
        Ok(key)
    }

    fn new(secret: SigningKey) -> Self {
        let point = secret.verifying_key().to_sec1_point(false);
        // 04, then 32 bytes each of x and y (SEC 1, 2.3.3).
        let bytes: &[u8] = point.as_ref();
        let half = |range| URL_SAFE_NO_PAD.encode(bytes.get(range).unwrap_or_default());
        let (x, y) = (half(1..33), half(33..65));
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(crate::digest::Sha256::of(thumbprint.as_bytes()).0);
        Self { secret, x, y, kid }
    }

    /// The public half, for the CA.
    #[must_use]
    pub fn public_jwk(&self) -> String {
        self.jwk().to_string()
    }

    /// The whole key, for whoever makes tokens.
    #[must_use]
    pub fn private_jwk(&self) -> String {
        let mut jwk = self.jwk();
        jwk["d"] = URL_SAFE_NO_PAD.encode(self.secret.to_bytes()).into();
        jwk.to_string()
    }

    fn jwk(&self) -> Value {
        json!({ "use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256", "x": self.x, "y": self.y })
    }

    /// Makes a token. `number` makes it unlike every other; the CA takes each number once.
    #[must_use]
    pub fn sign(&self, claims: &Claims<'_>, number: &[u8; 16]) -> String {
        let header = json!({ "alg": "ES256", "kid": self.kid, "typ": "JWT" });
        let body = json!({
            "iss": claims.provisioner,
            "sub": claims.subject,
            "sans": claims.sans,
            "aud": format!("{}/1.0/sign", claims.ca),
            "sha": claims.fingerprint,
            "iat": claims.issued,
            "nbf": claims.issued,
            "exp": claims.issued.saturating_add(claims.lifetime),
            "jti": number.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&body));
        let signature: Signature = self.secret.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

/// Never shows the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::signature::Verifier as _;

    /// The key of RFC 7515, appendix A.3.
    const RFC: &str = r#"{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;

    #[test]
    fn a_token_verifies_and_says_what_it_was_told() {
        let key = Key::from_jwk(RFC).unwrap();
        let sans = ["worker-1".to_owned(), "10.8.0.11".to_owned()];
        let claims = Claims {
            provisioner: "flannel",
            subject: "worker-1",
            sans: &sans,
            ca: "https://10.8.0.10:8443",
            fingerprint: "ab",
            issued: 1_000,
            lifetime: 300,
        };
        let token = key.sign(&claims, &[7; 16]);
        let parts: Vec<&str> = token.split('.').collect();
        let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        key.secret.verifying_key().verify(signed.as_bytes(), &signature).unwrap();
        let body: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(body["aud"], "https://10.8.0.10:8443/1.0/sign");
        assert_eq!((body["iat"].as_u64(), body["exp"].as_u64()), (Some(1_000), Some(1_300)));
        assert_eq!(body["sans"], json!(sans));
        assert_ne!(token, key.sign(&claims, &[8; 16]));
    }

    #[test]
    fn keys_survive_the_round_trip_and_bad_ones_are_refused_without_being_shown() {
        let key = Key::from_entropy(&[3; 32]).unwrap();
        assert_eq!(Key::from_jwk(&key.private_jwk()).unwrap().kid, key.kid);
        assert!(!key.public_jwk().contains("\"d\"") && !format!("{key:?}").contains("secret"));
        assert!(Key::from_entropy(&[0; 32]).is_err());
        let swapped = key.private_jwk().replace(&key.x, &key.y);
        for bad in ["", "{}", &key.public_jwk(), &swapped, &RFC.replace("P-256", "P-384")] {
            let error = Key::from_jwk(bad).unwrap_err();
            assert_eq!(crate::error::kind_of(&error), Kind::Usage);
            assert!(!format!("{error:#}").contains(&key.private_jwk()[..]), "{error:#}");
        }
    }
}
