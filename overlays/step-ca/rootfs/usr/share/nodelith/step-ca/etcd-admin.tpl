{"subject":{"commonName":"root","organization":{{ toJson .Token.sub }}},"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}
