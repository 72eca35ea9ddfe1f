{"subject":{"commonName":"kube-apiserver-proxy","organizationalUnit":{{ toJson .Token.sub }}},"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}
