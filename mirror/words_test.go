package mirror_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

func TestReferencesAreReadAsPeopleWriteThem(t *testing.T) {
	d := digest.FromString("x")
	tests := []struct {
		text string
		want mirror.Reference
		full string
	}{
		{"alpine", mirror.Reference{Host: "docker.io", Repository: "library/alpine"}, "docker.io/library/alpine"},
		{"alpine:3.20", mirror.Reference{Host: "docker.io", Repository: "library/alpine", Tag: "3.20"}, "docker.io/library/alpine:3.20"},
		{"grafana/grafana", mirror.Reference{Host: "docker.io", Repository: "grafana/grafana"}, "docker.io/grafana/grafana"},
		{"docker.io/alpine", mirror.Reference{Host: "docker.io", Repository: "library/alpine"}, "docker.io/library/alpine"},
		{"index.docker.io/a/b", mirror.Reference{Host: "docker.io", Repository: "a/b"}, "docker.io/a/b"},
		{"localhost/x", mirror.Reference{Host: "localhost", Repository: "x"}, "localhost/x"},
		{"localhost:5000/x:y", mirror.Reference{Host: "localhost:5000", Repository: "x", Tag: "y"}, "localhost:5000/x:y"},
		{"[::1]:5000/x", mirror.Reference{Host: "[::1]:5000", Repository: "x"}, "[::1]:5000/x"},
		{"ghcr.io/org/app:1@" + d.String(), mirror.Reference{Host: "ghcr.io", Repository: "org/app", Tag: "1", Digest: d}, "ghcr.io/org/app:1@" + d.String()},
	}
	for _, tt := range tests {
		got, err := mirror.ParseReference(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || got.String() != tt.full {
			t.Errorf("%s: %s, %s", tt.text, got, diff)
		}
	}
	for _, text := range []string{"", "Alpine", "a:b:c", "x@sha256:12", "x:-1", "../x", "a..b.io/x", "docker.io/", "https://docker.io/x", "docker.io/" + strings.Repeat("x/", 130) + "x"} {
		if ref, err := mirror.ParseReference(text); err == nil {
			t.Errorf("%q was read as %+v", text, ref)
		}
	}
}

var localName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)

func FuzzParseReference(f *testing.F) {
	for _, text := range []string{"alpine:3", "[::1]:5000/x", "localhost:1/a@sha256:e3", "A.b:5/x__y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := mirror.ParseReference(text)
		if err != nil {
			return
		}
		if local := ref.Local(); !localName.MatchString(local) || len(local) > 255 {
			t.Errorf("%q goes to %q, which is no repository name", text, local)
		}
		if again, err := mirror.ParseReference(ref.String()); err != nil || again != ref {
			t.Errorf("%q is %+v, and its name %q is %+v, %v", text, ref, ref, again, err)
		}
	})
}

func TestPatternsMatchWholeNames(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"12*", "12.1", true}, {"12*", "v12", false}, {"*", "a/b", false}, {"**", "a/b", true}, {"a/**", "a/b/c", true},
		{"{a,b}-1", "b-1", true}, {"/v1|v2/", "v2", true}, {"/v1|v2/", "v1-evil", false}, {"/v1|v2/", "x-v2", false}, {"/^1[23]-slim$/", "12-slim", true},
	}
	for _, tt := range tests {
		p, err := mirror.ParsePattern(tt.pattern)
		if err != nil || p.Match(tt.name) != tt.want || p.String() != tt.pattern {
			t.Errorf("%s matches %s: %v, want %v (%v)", tt.pattern, tt.name, p.Match(tt.name), tt.want, err)
		}
	}
	if (mirror.Pattern{}).Match("") {
		t.Error("the zero pattern matches")
	}
	for _, text := range []string{"", "[", "{a", "/(/"} {
		if _, err := mirror.ParsePattern(text); err == nil {
			t.Errorf("%q is a pattern", text)
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, text := range []string{"12*", "{a,b}", "/x|y/", `a\*`, "[a-z]"} {
		f.Add(text, "12")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := mirror.ParsePattern(text)
		if err != nil {
			return
		}
		if p.Literal() && (!p.Match(text) || p.Match(name) && name != text) {
			t.Errorf("%q is literal and does not match just itself", text)
		}
	})
}

func TestPlatformsMatch(t *testing.T) {
	v7 := &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	for text, want := range map[string]bool{"linux/arm": true, "linux/arm/v7": true, "linux/arm/v6": false, "linux/arm64": false, "windows/arm": false} {
		p, err := mirror.ParsePlatform(text)
		if err != nil || p.Match(v7) != want || p.String() != text {
			t.Errorf("%s matches: %v, want %v (%v)", text, p.Match(v7), want, err)
		}
	}
	for _, text := range []string{"", "linux", "linux/", "/amd64", "a/b/c/d", "a//b"} {
		if _, err := mirror.ParsePlatform(text); err == nil {
			t.Errorf("%q is a platform", text)
		}
	}
}

func TestRulesSayEverythingThatIsWrong(t *testing.T) {
	tests := []struct {
		name string
		rule mirror.Rule
		want []string
	}{
		{"a sound rule", mirror.Rule{From: "docker.io/library/{debian,alpine*}", Platforms: []string{"linux/amd64"}}, nil},
		{"nothing", mirror.Rule{}, []string{`from: reference ""`}},
		{"a tag in from", mirror.Rule{From: "alpine:3"}, []string{"from: \"alpine:3\" names a tag: put it under tags.include"}},
		{"a pattern without a host", mirror.Rule{From: "library/*"}, []string{"from: \"library/*\": a pattern of repositories begins with a host"}},
		{"two hosts", mirror.Rule{From: "{a.io,b.io}/x"}, []string{`from: "{a.io,b.io}/x" names the hosts a.io and b.io: write a rule for each`}},
		{"braces", mirror.Rule{From: "a.io/{x"}, []string{"braces that do not match"}},
		{"too many alternatives", mirror.Rule{From: "a.io/" + strings.Repeat("{a,b}", 12)}, []string{"has more than 1000 alternatives"}},
		{"all at once", mirror.Rule{From: "A", To: "/x", Tags: mirror.TagFilter{Include: []string{"["}, Exclude: []string{"/(/"}}, Platforms: []string{"linux"}},
			[]string{"from: ", "tags.include: ", "tags.exclude: ", "platforms: ", "to: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.rule.Validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestRulesSayWhereARepositoryGoes(t *testing.T) {
	tests := []struct{ from, to, repository, want string }{
		{"docker.io/library/debian", "", "docker.io/library/debian", "docker.io/library/debian"},
		{"reg:5000/x", "", "reg:5000/x", "reg-5000/x"},
		{"debian", "mirror/deb", "debian", "mirror/deb"},
		{"ghcr.io/org/**", "m", "ghcr.io/org/a/b", "m/a/b"},
		{"docker.io/library/{debian,alpine*}", "m", "alpine-x", "m/alpine-x"},
		{"docker.io/library/{debian,alpine}", "m", "debian", "m/debian"},
		{"index.docker.io/library/*", "", "alpine", "docker.io/library/alpine"},
		{"ghcr.io/org/**", "m", "ghcr.io/other/a", ""},
		{"ghcr.io/org/**", "m", "quay.io/org/a", ""},
	}
	for _, tt := range tests {
		ref, err := mirror.ParseReference(tt.repository)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := mirror.Rule{From: tt.from, To: tt.to}.LocalName(ref)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s from %q to %q goes to %q, want %q", tt.repository, tt.from, tt.to, got, tt.want)
		}
	}
}

func TestManifestsThatAreNoneAreRefused(t *testing.T) {
	d := digest.FromString("x")
	tests := []struct{ name, mediaType, raw, want string }{
		{"a web page", "", "<html>", "not a JSON document"},
		{"an error", "", `{"errors":[{"code":"DENIED"}]}`, "no manifest"},
		{"null", "", "null", "no manifest"},
		{"something behind it", "", `{"schemaVersion":2}x`, "not a JSON document"},
		{"schema 1", "", `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		{"two readings", "", `{"schemaVersion":2,"manifests":[],"layers":[]}`, "CVE-2021-41190"},
		{"another type than it was given as", ocispec.MediaTypeImageManifest, `{"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`, "says that it is"},
		{"a type that its content is not", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"manifests":[]}`, "is not what"},
		{"an index of itself", "", `{"schemaVersion":2,"manifests":[{"digest":"` + d.String() + `"}]}`, "lists itself"},
		{"a digest that is none", "", `{"schemaVersion":2,"layers":[{"digest":"sha256:../../x"}]}`, "layer: digest"},
		{"a size below zero", "", `{"schemaVersion":2,"layers":[{"digest":"` + digest.FromString("y").String() + `","size":-1}]}`, "size -1"},
		{"a subject that is none", "", `{"schemaVersion":2,"config":{"digest":"` + digest.FromString("y").String() + `"},"subject":{}}`, "subject: "},
		{"too large", "", strings.Repeat(" ", mirror.MaxManifest+1), "more than the 8388608"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := mirror.ParseManifest(ocispec.Descriptor{MediaType: tt.mediaType, Digest: d}, []byte(tt.raw))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	up := newShelf()
	img := up.image("x", "x", up.layer("x", 1))
	for _, d := range []ocispec.Descriptor{img, up.index("x", img), up.about("x", "y", img)} {
		f.Add(up.blobs[d.Digest])
	}
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := digest.FromBytes(raw)
		m, err := mirror.ParseManifest(ocispec.Descriptor{Digest: d}, raw)
		if err != nil {
			return
		}
		if m.Descriptor.MediaType == "" || m.Descriptor.Digest != d {
			t.Errorf("got %+v", m.Descriptor)
		}
		for _, r := range m.Refs {
			if r.Digest.Validate() != nil || r.Size < 0 || r.Digest == d {
				t.Errorf("refers to %+v", r)
			}
		}
	})
}

func TestAttachedTagsNameTheirSubject(t *testing.T) {
	d := digest.FromString("x")
	for tag, want := range map[string]bool{
		attachedTag(d, ""): true, attachedTag(d, ".sig"): true, attachedTag(d, ".att"): true, attachedTag(d, ".sbom"): true,
		attachedTag(d, ".sig2"): false, attachedTag(d, "") + "0": false, "sha256-abc": false, "latest": false,
	} {
		subject, ok := mirror.AttachedTag(tag)
		if ok != want || ok && subject != d {
			t.Errorf("%s: %s, %v", tag, subject, ok)
		}
	}
}

func TestAPlanAndItsReportPrintWhatIsDoneAndWhy(t *testing.T) {
	up := newShelf()
	img := up.image("app", "img")
	up.tag("app", "1", img.Digest)
	up.tag("app", "2", up.image("app", "broken", up.layer("layer", 9)).Digest)
	s := newSite(t, deniedSource{up, "HEAD 2", errFault})
	p, err := s.engine.Plan(t.Context(), []mirror.Rule{everything})
	if err != nil || p.Changes() != 1 || p.Failed() != 1 {
		t.Fatal(p, err)
	}
	r, err := s.engine.Apply(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	var planned, done bytes.Buffer
	if err := errors.Join(p.Print(&planned), r.Print(&done)); err != nil {
		t.Fatal(err)
	}
	text := `copied  reg.test/app:1  ` + img.Digest.String() + `  (new upstream)
failed  reg.test/app:2  upstream reg.test/app:2: a fault
rule reg.test/app: 1 copied, 0 unchanged, 1 failed
`
	if got, _, _ := strings.Cut(done.String(), "0 bytes"); !strings.HasPrefix(got, text) {
		t.Errorf("got\n%swant\n%s", got, text)
	}
	if want := strings.NewReplacer("copied  ", "to copy  ", "1 copied", "1 to copy").Replace(text); !strings.HasPrefix(planned.String(), want) {
		t.Errorf("got\n%swant\n%s", &planned, want)
	}
	checkFields(t, p, r)
}

// checkFields checks what scripts rely on.
func checkFields(t *testing.T, docs ...any) {
	t.Helper()
	for _, doc := range docs {
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Rules []struct {
				Name               string
				Copied             []struct{ Repo, Tag, Digest, Previous, Reason string }
				Held               []any
				Deferred, Vanished []any
				Failed             []struct{ Repo, Tag, Error string }
				Unchanged, Retired int
			}
			TransferredBytes int64   `json:"transferred_bytes"`
			UpstreamRequests int64   `json:"upstream_requests"`
			TookSeconds      float64 `json:"took_seconds"`
			Need             []struct {
				Upstream                              string
				Pulls, Requests, Bytes, Left, Reserve int64
				Limited                               bool
				Done                                  time.Time
			}
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&got); err != nil || len(got.Rules) != 1 || len(got.Rules[0].Copied) != 1 || len(got.Rules[0].Failed) != 1 || got.Rules[0].Held == nil {
			t.Errorf("%v: %s", err, raw)
		}
	}
}
