{"subject":{"commonName":"system:kube-controller-manager","organizationalUnit":{{ toJson .Token.sub }}},"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}
