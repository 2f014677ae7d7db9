// Command reader takes a snapshot out of a vault, by what store/vault/layout documents:
//
//	go run ./store/vault/testdata/reader VAULT SNAPSHOT FOLDER
//
// Each content goes to FOLDER, and each image is a line of JSON on standard output.
package main

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strings"
)

// document is any descriptor, manifest or index.
type document struct {
	Digest                   string
	Annotations              map[string]string
	URLs                     []string
	Config                   struct{ Digest string }
	Layers, Blobs, Manifests []document
}

var (
	vault, snapshot, folder = os.Args[1], os.Args[2], os.Args[3]
	record                  struct {
		Root    document
		Foreign []string
		Closure string
	}
	all = map[string]bool{} // digests that the snapshot leads to
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// content reads a file that must have this digest, if one is given.
func content(key, digest string) []byte {
	data, err := os.ReadFile(vault + "/" + key)
	check(err)
	if digest != "" && fmt.Sprintf("sha256:%x", sha256.Sum256(data)) != digest && fmt.Sprintf("sha512:%x", sha512.Sum512(data)) != digest {
		log.Fatal(key, " is damaged")
	}
	return data
}

func blob(digest string, into map[string]bool) []byte {
	into[digest], all[digest] = true, true
	data := content("blobs/"+strings.Replace(digest, ":", "/", 1), digest)
	check(os.WriteFile(folder+"/"+strings.Replace(digest, ":", "-", 1), data, 0o600))
	return data
}

// below reads a manifest and all that it leads to.
func below(digest string, absent []string, into map[string]bool) {
	var m document
	check(json.Unmarshal(blob(digest, into), &m))
	for _, b := range append(append(m.Layers, m.Blobs...), document{Digest: m.Config.Digest}) {
		if b.Digest != "" && (len(b.URLs) == 0 || slices.Contains(record.Foreign, b.Digest)) {
			blob(b.Digest, into)
		}
	}
	for _, child := range m.Manifests {
		if !slices.Contains(absent, child.Digest) {
			below(child.Digest, absent, into)
		}
	}
}

func main() {
	var head struct{ Snapshots []map[string]any }
	check(json.Unmarshal(content("vault/HEAD.json", ""), &head))
	for _, s := range head.Snapshots {
		if s["id"] == snapshot {
			check(json.Unmarshal(content(s["record"].(string), s["record_digest"].(string)), &record))
		}
	}
	var root document
	check(json.Unmarshal(blob(record.Root.Digest, all), &root))
	for _, repo := range root.Manifests {
		var list document
		check(json.Unmarshal(blob(repo.Digest, all), &list))
		for _, img := range list.Manifests {
			contents := map[string]bool{}
			below(img.Digest, strings.Split(img.Annotations["lastro.absent"], ","), contents)
			check(json.NewEncoder(os.Stdout).Encode(map[string]any{"repository": repo.Annotations["lastro.repository"], "tag": img.Annotations["org.opencontainers.image.ref.name"], "digest": img.Digest, "contents": slices.Sorted(maps.Keys(contents))}))
		}
	}
	if sum := sha256.Sum256([]byte(strings.Join(slices.Sorted(maps.Keys(all)), "\n") + "\n")); fmt.Sprintf("sha256:%x", sum) != record.Closure {
		log.Fatal("the snapshot is not whole")
	}
}
