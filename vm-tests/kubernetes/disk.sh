# Whoever steals this disk has this node's keys, and nothing that opens another door: no CA key, no other key, no token.
set -eu
# A line of its own: the words alone are in every crypto library of a container.
keys=$(grep -rlsaE '^-----BEGIN [A-Z ]*PRIVATE KEY-----' /var /etc | grep -vE '^/var/lib/nodelith/certificates/(flannel|kubelet|kube-proxy)/key.pem$' || true)
[ -z "$keys" ] || { echo "keys: $keys"; exit 1; }
# A token is three parts of base64url; the first begins with {"alg" or {"kid" or {"typ".
tokens=$(grep -rlsaE 'eyJ(hbGciOi|raWQiOi|0eXAiOi)[A-Za-z0-9_-]*\.eyJ[A-Za-z0-9_-]*\.' /var/lib /var/log | grep -v '^/var/lib/kubelet/pods/[^/]*/volumes/kubernetes.io~projected/' || true)
[ -z "$tokens" ] || { echo "tokens: $tokens"; exit 1; }
