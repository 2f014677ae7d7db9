package probe

import (
	"context"
	"strings"
	"sync"
	"testing"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/folder"
)

// politeBucket tells every writer of a race that another one was faster.
type politeBucket struct{ bucket.Bucket }

func (b politeBucket) Put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	created, err := b.Bucket.Put(ctx, key, o)
	if err == nil && strings.Contains(key, "-once-") {
		return false, bucket.ErrDiffers
	}
	return created, err
}

func (b politeBucket) Swap(ctx context.Context, key, etag string, data []byte) (string, error) {
	now, err := b.Bucket.Swap(ctx, key, etag, data)
	if err == nil && etag != "" && strings.Contains(key, "-swap-") {
		return "", bucket.ErrChanged
	}
	return now, err
}

// generousBucket tells two writers of a race that they won, and keeps the first.
type generousBucket struct {
	bucket.Bucket
	mu   *sync.Mutex
	lost map[string]int
}

func (b generousBucket) grant(key string, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil || !strings.Contains(key, "-once-") && !strings.Contains(key, "-swap-") {
		return false
	}
	b.lost[key]++
	return b.lost[key] == 1
}

func (b generousBucket) Put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	created, err := b.Bucket.Put(ctx, key, o)
	if b.grant(key, err) {
		return true, nil
	}
	return created, err
}

func (b generousBucket) Swap(ctx context.Context, key, etag string, data []byte) (string, error) {
	now, err := b.Bucket.Swap(ctx, key, etag, data)
	if b.grant(key, err) {
		return etag, nil
	}
	return now, err
}

// TestExactlyOneWriterWins has places where none is told so, and where one more is,
// while what lies there afterwards is of the first.
func TestExactlyOneWriterWins(t *testing.T) {
	for name, c := range map[string]struct {
		wrap func(bucket.Bucket) bucket.Bucket
		seen string
	}{
		"nobody is told to have won": {func(b bucket.Bucket) bucket.Bucket { return politeBucket{b} }, "of 8 writers at once, 0 won"},
		"two are told to have won":   {func(b bucket.Bucket) bucket.Bucket { return generousBucket{b, new(sync.Mutex), map[string]int{}} }, "of 8 writers at once, 2 won"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &run{b: c.wrap(folder.Open(t.TempDir(), folder.Options{})), o: Options{Writers: 8, Keys: 2}, prefix: "vault/probe/x-"}
			for _, step := range []func(context.Context) error{r.putOnce, r.swap} {
				if err := step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if p := r.result.Proven; p.PutOnce || p.Swap || len(r.result.Tried) != 2 {
				t.Errorf("got %+v", r.result)
			}
			for _, tried := range r.result.Tried {
				if tried.Holds || tried.Seen != c.seen {
					t.Errorf("%s: got %q, want %q", tried.Name, tried.Seen, c.seen)
				}
			}
		})
	}
}
