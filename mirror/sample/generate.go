package sample

import (
	"cmp"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LongTag is a tag of the greatest length that there may be.
const LongTag = "build-012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789.x"

// Generate makes all images of the sample.
func Generate(o Options) *Images {
	o.LayerBytes = cmp.Or(o.LayerBytes, 4<<10)
	o.Versions = cmp.Or(o.Versions, 5)
	im := &Images{options: o}
	im.base()
	im.tools()
	for i := range o.Versions {
		im.Build("apps/web", fmt.Sprintf("1.%d", i))
	}
	web := im.repo("apps/web")
	web.tag("latest", web.held[web.tags[fmt.Sprintf("1.%d", o.Versions-1)]].Descriptor)
	im.nested()
	im.service()
	im.chart()
	im.artifacts()
	return im
}

// Build puts a new image at a tag, whether the tag is there or not: three
// platforms, signed, on the layers of library/base. Each call makes other bytes.
func (im *Images) Build(repo, tag string) Expect {
	im.builds++
	r := im.repo(repo)
	var images []ocispec.Descriptor
	for _, p := range platforms {
		name := fmt.Sprintf("%s-%s-%d", repo, p.Architecture, im.builds)
		images = append(images, r.image(oci, p, im.baseLayer(p), im.gzipLayer(repo), im.zstdLayer(name)))
	}
	index := r.attested(images...)
	im.signed(r, index)
	im.cosign(r, index)
	r.tag(tag, index)
	return r.expect(tag)
}

func (im *Images) baseLayer(p ocispec.Platform) layer {
	return im.gzipLayer("base-" + p.Architecture)
}

func (im *Images) base() {
	r := im.repo("library/base")
	var images []ocispec.Descriptor
	for _, p := range platforms {
		images = append(images, r.image(oci, p, im.baseLayer(p)))
	}
	index := r.attested(images...)
	im.signed(r, index)
	im.cosign(r, index)
	ofChild := im.sbom(r, images[0])
	r.fallback(images[0].Digest, ofChild)
	r.tag("3.20", index)
	r.tag("latest", index)
}

func (im *Images) tools() {
	r := im.repo("library/tools")
	var images []ocispec.Descriptor
	for _, p := range platforms[:2] {
		images = append(images, r.image(docker, p, im.baseLayer(p).as(dockerLayer), im.gzipLayer("tools-"+p.Architecture).as(dockerLayer)))
	}
	r.tag("1", r.index(docker, images...))
	r.tag("amd64", images[0])
}

func (im *Images) nested() {
	r := im.repo("apps/all")
	var linux []ocispec.Descriptor
	for _, p := range platforms {
		linux = append(linux, r.image(oci, p, im.baseLayer(p)))
	}
	windows := r.image(oci, ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.1"}, im.gzipLayer("windows"))
	r.tag("1", r.index(oci, r.index(oci, linux...), r.index(oci, windows)))
}

func (im *Images) service() {
	r := im.repo("org/team/group/project/service")
	elsewhere := im.gzipLayer("elsewhere").as(foreignLayer)
	elsewhere.urls = []string{"https://layers.example/elsewhere.tar.gz"}
	twice := im.gzipLayer("twice").as(dockerLayer)
	r.tag(LongTag, r.image(docker, platforms[0], elsewhere, twice, twice))
}

func (im *Images) chart() {
	r := im.repo("charts/web")
	chart := im.gzipLayer("chart")
	m := ocispec.Manifest{MediaType: oci.image, Config: r.blob("application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"web","version":"0.1.0","apiVersion":"v2"}`))}
	m.SchemaVersion = 2
	m.Layers = []ocispec.Descriptor{r.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", chart.raw)}
	r.tag("0.1.0", r.manifest(oci.image, m))
}

func (im *Images) artifacts() {
	r := im.repo("artifacts/model")
	weights := make([]byte, im.options.LayerBytes)
	im.random("weights").Read(weights)
	content := r.blob("application/vnd.example.weights", weights)
	r.tag("v1", r.artifact("application/vnd.example.model.v1", &content, nil, nil))
	r.tag("empty", r.artifact("application/vnd.example.marker.v1", nil, nil, map[string]string{"org.example.note": "no content at all"}))
}
