package mirror

import (
	"context"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestRoomThatWasPromisedIsFreeAgainAsItFills(t *testing.T) {
	free := int64(margin + 1000)
	a := &applying{Engine: &Engine{Room: func(context.Context) (int64, error) { return free, nil }}}
	want := func(bytes int64, ok bool) {
		t.Helper()
		promises, err := a.promise(t.Context(), []ocispec.Descriptor{{Size: bytes}})
		if (err == nil) != ok {
			t.Errorf("%d bytes: %v", bytes, err)
		}
		for _, p := range promises {
			p.end()
		}
	}
	promises, err := a.promise(t.Context(), []ocispec.Descriptor{{Size: 600}, {Size: 200}})
	if err != nil {
		t.Fatal(err)
	}
	want(200, true)
	want(201, false)
	free -= 500 // that much came
	promises[0].keep(100)
	want(200, true)
	want(201, false)
	promises[0].keep(500) // it began again, over what is there
	want(201, false)
	promises[0].end()
	promises[0].end()
	want(300, true)
	want(301, false)
	promises[1].end()
	if a.room.promised != 0 {
		t.Errorf("%d bytes stay promised", a.room.promised)
	}
}
