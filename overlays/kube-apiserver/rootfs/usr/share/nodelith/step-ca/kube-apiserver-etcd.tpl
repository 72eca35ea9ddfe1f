{"subject":{"commonName":"kube-apiserver","organizationalUnit":{{ toJson .Token.sub }}},"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}
