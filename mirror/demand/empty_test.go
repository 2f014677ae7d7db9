package demand

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestABlobIsNotEmptyBecauseAnUpstreamSaysSo asks for a blob of which an
// upstream has no bytes: read to its end at once, it would never be verified.
func TestABlobIsNotEmptyBecauseAnUpstreamSaysSo(t *testing.T) {
	h := newHub()
	layer := h.layer("app", "layer", 1000)
	h.content[layer.Digest] = nil
	empty := h.layer("app", "x", 0)
	b := newBench(t, h, Options{}, onMiss)
	if s, err := b.Blob(t.Context(), app, layer.Digest); err == nil {
		t.Errorf("a stream of %d bytes", s.Size)
	}
	if raw, err := b.pull(t, app, empty.Digest); err != nil || len(raw) > 0 || empty.Digest != digest.FromString("") {
		t.Errorf("what is empty: %q, %v", raw, err)
	}
}
