{"subject":{"commonName":"flannel","organization":{{ toJson .Token.sub }}},"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}
