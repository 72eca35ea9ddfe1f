module nodelith.dev/flanneld

go 1.26

require github.com/flannel-io/flannel v0.28.9
