package upstream

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// send answers with a header of pairs, and a body.
func send(body string, pairs ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			w.Header().Set(pairs[i], pairs[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

func TestAManifestIsVerified(t *testing.T) {
	const digestHeader, typeHeader = "Docker-Content-Digest", "Content-Type"
	sha512 := digest.SHA512.FromString(index)
	other := digest.FromString("other")
	for _, c := range []struct {
		name, ref string
		handler   http.HandlerFunc
		want      digest.Digest
		mediaType string
		err       string
	}{
		{"by tag, against the digest that is named", "v1", sendIndex, indexDigest, ocispec.MediaTypeImageIndex, ""},
		{"by tag, without one", "v1", send(index, typeHeader, "application/json"), indexDigest, "", ""},
		{"by tag, against SHA-512", "v1", send(index, digestHeader, sha512.String(), typeHeader, "text/plain; charset=utf-8"), sha512, "", ""},
		{"by digest", indexDigest.String(), send(index, typeHeader, "application/vnd.x+json; charset=utf-8"), indexDigest, "application/vnd.x+json", ""},
		{"by SHA-512", sha512.String(), send(index, typeHeader, "application/json"), sha512, "", ""},
		{"wrong by digest, whatever is named", other.String(), send(index, digestHeader, other.String()), "", "", "wrong digest"},
		{"wrong by tag", "v1", send(index, digestHeader, other.String(), typeHeader, "application/json"), "", "", "wrong digest"},
		{"a digest that is none", "v1", send(index, digestHeader, "sha256:xyz", typeHeader, "application/json"), "", "", `digest "sha256:xyz"`},
		{"a web page", "v1", send("<!doctype html><title>Log in</title>", typeHeader, "text/html; charset=utf-8"), "", "", "web page"},
		{"a web page that says it is JSON", "v1", send("\n <html>", typeHeader, "application/json"), "", "", "web page"},
		{"one byte too large", "v1", send(strings.Repeat(" ", mirror.MaxManifest+1), typeHeader, "application/json"), "", "", "more than the 8 MiB"},
		{"too large by its header", "v1", send("", "Content-Length", "9000000"), "", "", "more than the 8 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := serve(t, c.handler)
			desc, raw, err := r.Manifest(t.Context(), "org/app", c.ref)
			if c.err != "" {
				wantError(t, err, c.err, "upstream "+r.host+": GET manifests/"+c.ref+" of org/app: ")
				if r.Requests() != 1 {
					t.Errorf("%d requests", r.Requests())
				}
				return
			}
			want := ocispec.Descriptor{MediaType: c.mediaType, Digest: c.want, Size: int64(len(index))}
			if err != nil || string(raw) != index || desc.Digest != want.Digest || desc.MediaType != want.MediaType || desc.Size != want.Size {
				t.Errorf("got %v, %q, %v; want %v", desc, raw, err, want)
			}
		})
	}
}

func TestTheLargestManifestIsRead(t *testing.T) {
	text := "{}" + strings.Repeat(" ", mirror.MaxManifest-2)
	_, raw, err := serve(t, send(text, "Content-Type", "application/json")).Manifest(t.Context(), "a", "v1")
	if err != nil || len(raw) != mirror.MaxManifest {
		t.Errorf("got %d bytes, %v", len(raw), err)
	}
}

func TestHeadSaysWhatATagIs(t *testing.T) {
	other := digest.FromString("other")
	// onlyGET answers HEAD otherwise.
	onlyGET := func(head http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				head(w, r)
				return
			}
			sendIndex(w, r)
		}
	}
	for _, c := range []struct {
		name, ref string
		handler   http.HandlerFunc
		requests  int64
		err       string
	}{
		{"in one request", "v1", sendIndex, 1, ""},
		{"by digest", indexDigest.String(), sendIndex, 1, ""},
		{"by another digest", other.String(), sendIndex, 1, "under this digest"},
		{"with GET where HEAD names no digest", "v1", onlyGET(send("")), 2, ""},
		{"with GET where HEAD names something else", "v1", onlyGET(send("", "Docker-Content-Digest", "v1")), 2, ""},
		{"with GET where HEAD is not allowed", "v1", onlyGET(refuse(405, "")), 2, ""},
		{"with GET where HEAD is a web page", "v1", onlyGET(send("", "Content-Type", "text/html", "Docker-Content-Digest", other.String())), 2, ""},
		{"not for what is not there", "v1", refuse(404, ""), 1, "404 Not Found; check the name and the tag"},
		{"not for what is not for us", "v1", refuse(403, ""), 1, "403 Forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := serve(t, c.handler)
			desc, err := r.Head(t.Context(), "org/app", c.ref)
			if r.Requests() != c.requests {
				t.Errorf("%d requests, want %d", r.Requests(), c.requests)
			}
			if c.err != "" {
				wantError(t, err, c.err, "HEAD manifests/"+c.ref+" of org/app")
				if errors.Is(err, fs.ErrNotExist) != strings.Contains(c.err, "404") {
					t.Errorf("%v is fs.ErrNotExist: %v", err, errors.Is(err, fs.ErrNotExist))
				}
				return
			}
			if err != nil || desc.Digest != indexDigest || desc.MediaType != ocispec.MediaTypeImageIndex || desc.Size != int64(len(index)) {
				t.Errorf("got %v, %v", desc, err)
			}
		})
	}
}

func TestAllKindsOfManifestsAreAskedFor(t *testing.T) {
	for _, want := range []string{"image.index.v1", "manifest.list.v2", "image.manifest.v1", "distribution.manifest.v2", "artifact.manifest.v1", "*/*"} {
		if !strings.Contains(strings.Join(accepted["Accept"], ","), want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestWhatAnUpstreamSaysIsShownShortAndPlain(t *testing.T) {
	for _, c := range []struct{ name, kind, body, want string }{
		{"the spec's errors", "application/json", `{"errors":[{"code":"DENIED","message":"no\u001b[31m\nentry"},{"code":"OTHER"}]}`, "403 Forbidden: DENIED: no [31m entry;"},
		{"plain text", "text/plain", "go\raway", "403 Forbidden: go away;"},
		{"a web page is not shown", "text/html", "<b>no</b>", "403 Forbidden;"},
		{"a code alone", "application/json", `{"errors":[{"code":"DENIED"}]}`, "403 Forbidden: DENIED;"},
		{"something else", "application/json", `[1]`, "403 Forbidden;"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				refuse(403, c.body)(w, r)
			}).Manifest(t.Context(), "a", "v1")
			wantError(t, err, c.want, "credentials")
		})
	}
	long := plain(strings.Repeat("é", 10_000))
	if len([]rune(long)) != maxDetail+1 {
		t.Errorf("%d characters", len([]rune(long)))
	}
}
