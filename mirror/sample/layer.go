package sample

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types that the OCI did not name.
const (
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerImage  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList   = "application/vnd.docker.distribution.manifest.list.v2+json"

	foreignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

var created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// layer is a compressed tar.
type layer struct {
	mediaType string
	raw       []byte
	diffID    digest.Digest // of the tar itself
	urls      []string
}

// as is the same bytes under another media type.
func (l layer) as(mediaType string) layer {
	l.mediaType = mediaType
	return l
}

func (im *Images) gzipLayer(name string) layer {
	plain := im.archive(name)
	return layer{mediaType: ocispec.MediaTypeImageLayerGzip, raw: compress(plain), diffID: digest.FromBytes(plain)}
}

func (im *Images) zstdLayer(name string) layer {
	plain := im.archive(name)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // the options are constant
	}
	return layer{mediaType: ocispec.MediaTypeImageLayerZstd, raw: enc.EncodeAll(plain, nil), diffID: digest.FromBytes(plain)}
}

// archive is a tar that can be unpacked: a folder, a script, a file of random
// bytes and a link.
func (im *Images) archive(name string) []byte {
	dir := "opt/" + strings.NewReplacer("/", "-", ":", "-").Replace(name) + "/"
	random := make([]byte, im.options.LayerBytes)
	im.random(name).Read(random)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, content []byte) {
		h.Name, h.Size, h.ModTime, h.Format = dir+h.Name, int64(len(content)), created, tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			panic(err) // into memory, with headers that are constant
		}
		_, _ = w.Write(content)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "run", Mode: 0o755}, fmt.Appendf(nil, "#!/bin/sh\necho %s\n", name))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "data", Mode: 0o644}, random)
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "current", Linkname: "data", Mode: 0o777}, nil)
	_ = w.Close()
	return buf.Bytes()
}

// random is a source of its own for each name, so that content does not depend
// on the order in which it is made.
func (im *Images) random(name string) *rand.ChaCha8 {
	return rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d %s", im.options.Seed, name)))
}

func compress(plain []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(plain)
	_ = w.Close()
	return buf.Bytes()
}
