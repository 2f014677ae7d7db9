// Package clients makes the files that point container clients at a mirror.
//
// What a client does when the mirror lacks an image is written out, whichever
// it is: containerd, k3s and Podman go to the upstream unless they are told
// otherwise, and Docker always does.
//
//	docker      /etc/docker/daemon.json                         Docker Hub's names only
//	            /etc/docker/certs.d/ADDRESS/ca.crt
//	containerd  /etc/containerd/certs.d/HOST/hosts.toml         asks the mirror with ?ns=HOST
//	            /etc/containerd/certs.d/HOST/lastro-ca.crt
//	podman      /etc/containers/registries.conf.d/50-lastro.conf  asks for ADDRESS/HOST/NAME; so do CRI-O, Buildah, skopeo
//	            /etc/containers/certs.d/ADDRESS/ca.crt
//	k3s         /etc/rancher/k3s/registries.yaml                asks the mirror with ?ns=HOST
//	            /etc/rancher/k3s/config.yaml.d/lastro.yaml      without fallback
//	            /etc/rancher/k3s/lastro-ca.crt
//
// Each file also says how the mirror is reached under its own name, where the
// client would take it for a registry with TLS that everybody trusts.
//
// Making files does no I/O; only [Config.Write] does.
package clients
