{"subject":{"commonName":"system:kube-proxy","organizationalUnit":{{ toJson .Token.sub }}},"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}
