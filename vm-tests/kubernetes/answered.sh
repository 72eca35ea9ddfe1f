# Every answer since ask-on.sh was good, and there were many; the node is Ready by what its kubelet says now.
set -eu
if grep -v ' 200$' /run/answers; then exit 1; fi
# One for each time that the API server took another certificate for kubelets, at most: four at the end of the third.
[ "$(wc -l </run/repeated)" -le 4 ] || { cat /run/repeated; exit 1; }
[ "$(wc -l </run/answers)" -gt 300 ] || { echo "only $(wc -l </run/answers) answers"; exit 1; }
HOME=/tmp /usr/lib/nodelith/kubectl-admin wait --for=condition=Ready --timeout=20s node/worker-1
lease=$(HOME=/tmp /usr/lib/nodelith/kubectl-admin -n kube-node-lease get lease worker-1 -o 'jsonpath={.spec.renewTime}')
[ $(($(date +%s) - $(date -d "$lease" +%s))) -lt 60 ] || { echo "the node's lease is of $lease"; exit 1; }
