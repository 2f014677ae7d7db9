package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"lastro/store/vault/bucket"
)

// putOnce lets writers create the same objects with different bytes.
func (r *run) putOnce(ctx context.Context) error {
	fault, err := r.races(ctx, "once-", func(_ int, key, text string) error {
		_, err := r.b.Put(ctx, key, bucket.Bytes([]byte(text)))
		return err
	})
	r.raced("creates once (If-None-Match)", "objects", &r.result.Proven.PutOnce, fault)
	return err
}

// swap lets writers replace the same records from the same state. Beside the race,
// a state that never was must be refused.
func (r *run) swap(ctx context.Context) error {
	etags := make([]string, r.o.Keys)
	for i := range etags {
		etag, err := r.b.Swap(ctx, fmt.Sprintf("%sswap-%d", r.prefix, i), "", []byte("the first state"))
		if err != nil {
			return err
		}
		etags[i] = etag
	}
	fault, err := r.races(ctx, "swap-", func(i int, key, text string) error {
		_, err := r.b.Swap(ctx, key, etags[i], []byte(text))
		return err
	})
	if err == nil && fault == "" {
		fault, err = r.swapFromNowhere(ctx)
	}
	r.raced("compares and swaps (If-Match)", "records", &r.result.Proven.Swap, fault)
	return err
}

func (r *run) swapFromNowhere(ctx context.Context) (fault string, err error) {
	for _, etag := range []string{"", `"00000000000000000000000000000000"`} {
		_, err := r.b.Swap(ctx, r.prefix+"swap-0", etag, []byte("a state from nowhere"))
		if err == nil {
			return "a record was replaced from a state that it never had", nil
		}
		if !errors.Is(err, bucket.ErrChanged) {
			return "", err
		}
	}
	return "", nil
}

func (r *run) raced(name, what string, holds *bool, fault string) {
	seen := fault
	if fault == "" {
		seen = fmt.Sprintf("%d writers at once for each of %d %s: one wins", r.o.Writers, r.o.Keys, what)
	}
	r.note(name, holds, fault == "", "%s", seen)
}

// races lets all writers try at once for each key, until something goes wrong there.
func (r *run) races(ctx context.Context, name string, try func(i int, key, text string) error) (fault string, err error) {
	for i := range r.o.Keys {
		key := fmt.Sprintf("%s%s%d", r.prefix, name, i)
		won, err := r.race(func(text string) error { return try(i, key, text) })
		if err != nil {
			return "", err
		}
		if fault, err = r.judge(ctx, key, won); fault != "" || err != nil {
			return fault, err
		}
	}
	return "", nil
}

// race returns the texts of those who won, and the first error that is not a defeat.
func (r *run) race(try func(text string) error) (won []string, err error) {
	var wg sync.WaitGroup
	start, errs := make(chan struct{}), make([]error, r.o.Writers)
	for w := range errs {
		wg.Go(func() {
			<-start
			errs[w] = try(text(w))
		})
	}
	close(start)
	wg.Wait()
	for w, e := range errs {
		switch {
		case e == nil:
			won = append(won, text(w))
		case !errors.Is(e, bucket.ErrDiffers) && !errors.Is(e, bucket.ErrChanged):
			return nil, e
		}
	}
	return won, nil
}

// text differs in length as well, for servers that compare little else.
func text(writer int) string {
	return fmt.Sprintf("by writer %d%s", writer, strings.Repeat(".", writer))
}

// judge looks at what a race left behind.
func (r *run) judge(ctx context.Context, key string, won []string) (fault string, err error) {
	if len(won) != 1 {
		return fmt.Sprintf("of %d writers at once, %d won", r.o.Writers, len(won)), nil
	}
	rec, err := r.b.Load(ctx, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if string(rec.Data) != won[0] {
		return "what lies there is not of the writer who won", nil
	}
	return "", nil
}
