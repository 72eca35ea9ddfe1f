{"subject":{"commonName":"system:kube-scheduler","organizationalUnit":{{ toJson .Token.sub }}},"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}
