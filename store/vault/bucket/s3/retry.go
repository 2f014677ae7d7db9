package s3

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"lastro/store/vault/bucket"
)

// attempts is how often a request is sent before its error is returned; the
// pauses between add up to about 25 seconds.
const attempts = 8

var (
	errStalled = errors.New("no progress: the connection was cut")
	errBroken  = errors.New("the stream broke")
)

// retry calls fn until it succeeds, fails for good, or was tried often enough.
// fn learns the number of the attempt, from 1: after the first, an earlier one may
// have done its work and lost the answer.
func retry(ctx context.Context, o Options, op, key string, fn func(attempt int) error) error {
	for n := 1; ; n++ {
		err := fn(n)
		if err == nil || n == attempts || !transient(err) || ctx.Err() != nil {
			return err
		}
		o.Log.Debug("request is sent again", "op", op, "key", key, "attempt", n, "err", err)
		if !pause(ctx, backoff(n, err)) {
			return err
		}
	}
}

// backoff doubles from 100 ms to 8 s, with half of it by chance. A server that asks
// for less traffic gets four times that.
func backoff(n int, err error) time.Duration {
	d := min(100*time.Millisecond<<n, 8*time.Second)
	if throttled(err) {
		d = min(4*d, 20*time.Second)
	}
	return d/2 + rand.N(d/2)
}

// pause waits; false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func status(err error) int {
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return r.HTTPStatusCode()
	}
	return 0
}

func code(err error) string {
	if a, ok := errors.AsType[smithy.APIError](err); ok {
		return a.ErrorCode()
	}
	return ""
}

func throttled(err error) bool {
	return status(err) == http.StatusTooManyRequests ||
		slices.Contains([]string{"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"}, code(err))
}

// transient errors may be gone at the next try.
func transient(err error) bool {
	if _, ok := errors.AsType[*bucket.ContentError](err); ok || errors.Is(err, context.Canceled) && !errors.Is(err, errStalled) {
		return false
	}
	switch s := status(err); {
	case s == http.StatusNotImplemented || s == http.StatusInsufficientStorage || full(err):
		return false
	case s >= 500 || s == http.StatusConflict || s == http.StatusRequestTimeout || throttled(err):
		return true
	case code(err) == "RequestTimeout" || code(err) == "BadDigest":
		return true // the bytes were damaged on their way
	case s != 0:
		return false
	}
	return errors.Is(err, errStalled) || errors.Is(err, errBroken) || removable(err) || broken(err)
}

// broken connections: refused, reset, cut within an answer.
func broken(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	_, send := errors.AsType[*smithyhttp.RequestSendError](err)
	_, read := errors.AsType[*awshttp.ResponseTimeoutError](err)
	return send || read || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// watchdog ends a context when nothing moves for the idle time.
type watchdog struct {
	timer  *time.Timer
	idle   time.Duration
	cancel context.CancelCauseFunc
}

func watch(ctx context.Context, idle time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watchdog{time.AfterFunc(idle, func() { cancel(errStalled) }), idle, cancel}
}

func (w *watchdog) kick() { w.timer.Reset(w.idle) }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// stalled tells a cut by the watchdog from one by the caller.
func stalled(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errors.Join(errStalled, err)
	}
	return err
}
