# What the scripts of Kubernetes share. Sourced after lib.sh.

# api_server: the URL of the API server; a controller is its own.
api_server() {
    url=$(cred nodelith.kubernetes.api-server)
    if [ -z "$url" ]; then
        [ -x /usr/bin/kube-apiserver ] || fail NL-KUBE-001 'no API server: set the credential nodelith.kubernetes.api-server to its https URL'
        read -r address </run/nodelith/address
        url=https://$address:6443
    fi
    case $url in
    https://*) printf '%s' "$url" ;;
    *) fail NL-KUBE-001 "the credential nodelith.kubernetes.api-server holds \`$url\`, which is no https URL" ;;
    esac
}
