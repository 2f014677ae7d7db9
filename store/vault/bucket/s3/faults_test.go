package s3

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
)

// roundTrip is an http.RoundTripper with one fault.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(r *http.Request, status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	if header.Get("Content-Length") == "" {
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}
}

func apiError(r *http.Request, status int, code string) *http.Response {
	return answer(r, status, nil, "<Error><Code>"+code+"</Code><Message>m</Message></Error>")
}

// fake is a bucket behind a transport, without any server.
func fake(t *testing.T, rt roundTrip) *remote {
	t.Helper()
	s := Settings{Endpoint: "http://127.0.0.1:1", Credentials: Credentials{AccessKey: "key", SecretKey: "hush-hush"}}
	b, err := Open(t.Context(), "b", "p", s, Options{Transport: rt})
	if err != nil {
		t.Fatal(err)
	}
	return b.(*remote)
}

func drain(r *http.Request) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
}

func TestARequestIsSentAgainWhileTheServerIsInTrouble(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		code   string
		want   int // requests
	}{
		{"an internal error", 500, "InternalError", 3},
		{"throttling", 503, "SlowDown", 3},
		{"too many requests", 429, "TooManyRequests", 3},
		{"a lost race that may be repeated", 409, "ConditionalRequestConflict", 3},
		{"bytes damaged on their way", 400, "BadDigest", 3},
		{"a refusal for good", 403, "AccessDenied", 1},
		{"no room", 507, "InsufficientStorage", 1},
		{"what the server cannot do", 501, "NotImplemented", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				b := fake(t, func(r *http.Request) (*http.Response, error) {
					drain(r)
					if requests++; requests <= 2 {
						return apiError(r, c.status, c.code), nil
					}
					return answer(r, 200, http.Header{"Etag": {`"e"`}}, ""), nil
				})
				_, err := b.Put(t.Context(), "k", bucket.Bytes([]byte("x")))
				if requests != c.want || (err == nil) != (c.want == 3) {
					t.Errorf("got %d requests, %v; want %d", requests, err, c.want)
				}
			})
		})
	}
}

func TestAServerThatStaysInTroubleIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, start := 0, time.Now()
		b := fake(t, func(r *http.Request) (*http.Response, error) {
			drain(r)
			requests++
			return apiError(r, 503, "SlowDown"), nil
		})
		_, err := b.Load(t.Context(), "k")
		if err == nil || requests != attempts {
			t.Errorf("got %v after %d requests, want an error after %d", err, requests, attempts)
		}
		if took := time.Since(start); took < 20*time.Second || took > 3*time.Minute {
			t.Errorf("took %v, want pauses that grow", took)
		}
	})
}

func TestAnEndedContextEndsThePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		b := fake(t, func(r *http.Request) (*http.Response, error) { return apiError(r, 503, "SlowDown"), nil })
		if _, err := b.Load(ctx, "k"); err == nil || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want an error after one second", err, time.Since(start))
		}
	})
}

func TestARequestThatStandsStillIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, start := 0, time.Now()
		b := fake(t, func(r *http.Request) (*http.Response, error) {
			if requests++; requests == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return answer(r, 200, nil, "{}"), nil
		})
		rec, err := b.Load(t.Context(), "k")
		if err != nil || string(rec.Data) != "{}" {
			t.Errorf("got %q, %v", rec.Data, err)
		}
		if took := time.Since(start); took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("took %v, want the idle time and a pause", took)
		}
	})
}

// cutter breaks the stream of an answer after some bytes.
type cutter struct {
	io.Reader
	left int
}

func (c *cutter) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errors.New("connection reset by peer")
	}
	n, err := c.Reader.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *cutter) Close() error { return nil }

func TestABrokenStreamIsContinuedWhereItBroke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const want = "a stream in several pieces"
		var ranges []string
		b := fake(t, func(r *http.Request) (*http.Response, error) {
			ranges = append(ranges, r.Header.Get("Range"))
			at := 0
			if h := r.Header.Get("Range"); h != "" {
				at = map[string]int{"bytes=7-": 7, "bytes=14-": 14, "bytes=21-": 21}[h]
			}
			out := answer(r, 200, http.Header{"Etag": {`"e"`}}, want[at:])
			if at > 0 {
				out.StatusCode = 206
				out.Header.Set("Content-Range", "bytes")
			}
			out.Body = &cutter{out.Body, 7}
			return out, nil
		})
		body, _, err := b.Get(t.Context(), "k", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		got, err := io.ReadAll(body)
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		if len(ranges) != 4 {
			t.Errorf("got requests for %q, want four", ranges)
		}
	})
}

func TestAStreamIsNotContinuedWithAnotherObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		b := fake(t, func(r *http.Request) (*http.Response, error) {
			if requests++; requests > 1 {
				if got := r.Header.Get("If-Match"); got != `"one"` {
					t.Errorf("got If-Match %q", got)
				}
				return apiError(r, 412, "PreconditionFailed"), nil
			}
			out := answer(r, 200, http.Header{"Etag": {`"one"`}}, "abcdef")
			out.Body = &cutter{out.Body, 3}
			return out, nil
		})
		body, _, err := b.Get(t.Context(), "k", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(body); err == nil || string(got) != "abc" {
			t.Errorf("got %q, %v; want an error after abc", got, err)
		}
	})
}

func TestAServerWithoutRangesIsReadFromTheStart(t *testing.T) {
	b := fake(t, func(r *http.Request) (*http.Response, error) { return answer(r, 200, nil, "abcdef"), nil })
	body, info, err := b.Get(t.Context(), "k", 4)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); string(got) != "ef" || err != nil || info.Size != 6 {
		t.Errorf("got %q of %d, %v", got, info.Size, err)
	}
}

func TestWhatIsSaidToBeThereIsLookedAt(t *testing.T) {
	data := []byte("content")
	o := bucket.Bytes(data)
	sum, _ := sha256Of(o)
	crc, _ := crcOf(o)
	for _, c := range []struct {
		name   string
		header http.Header
		body   string
		want   error
	}{
		{"the same by SHA-256", http.Header{"Content-Length": {"7"}, "X-Amz-Checksum-Sha256": {base64.StdEncoding.EncodeToString(sum)}}, "", nil},
		{"the same by CRC64NVME", http.Header{"Content-Length": {"7"}, "X-Amz-Checksum-Crc64nvme": {crc}, "X-Amz-Checksum-Type": {"FULL_OBJECT"}}, "", nil},
		{"the same by its bytes", http.Header{"Content-Length": {"7"}}, "content", nil},
		{"another size", http.Header{"Content-Length": {"8"}}, "", bucket.ErrDiffers},
		{"another SHA-256", http.Header{"Content-Length": {"7"}, "X-Amz-Checksum-Sha256": {base64.StdEncoding.EncodeToString(make([]byte, 32))}}, "", bucket.ErrDiffers},
		{"another CRC64NVME", http.Header{"Content-Length": {"7"}, "X-Amz-Checksum-Crc64nvme": {"AAAAAAAAAAA="}}, "", bucket.ErrDiffers},
		{"other bytes", http.Header{"Content-Length": {"7"}}, "c0ntent", bucket.ErrDiffers},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := fake(t, func(r *http.Request) (*http.Response, error) {
				drain(r)
				switch r.Method {
				case http.MethodPut:
					return apiError(r, 412, "PreconditionFailed"), nil
				case http.MethodHead:
					out := answer(r, 200, c.header, "")
					out.ContentLength = -1
					return out, nil
				}
				return answer(r, 200, nil, c.body), nil
			})
			created, err := b.Put(t.Context(), "k", o)
			if created || !errors.Is(err, c.want) {
				t.Errorf("got %v, %v; want false, %v", created, err, c.want)
			}
		})
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	gateway := startGateway(t)
	denied := gateway
	denied.Credentials.SecretKey = "not-the-secret"
	for _, c := range []struct {
		name string
		s    Settings
		is   error
		want string
	}{
		{"wrong credentials", denied, fs.ErrPermission, "check s3.credentials"},
		{"a missing bucket", gateway, nil, `the bucket "missing" does not exist`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := Open(t.Context(), "missing", "p", c.s, Options{})
			if err != nil {
				t.Fatal(err)
			}
			r := b.(*remote)
			for op, err := range map[string]error{
				"load": second(r.Load(t.Context(), "vault/config.json")),
				"put":  second(r.Put(t.Context(), "k", bucket.Bytes([]byte("x")))),
				"swap": second(r.Swap(t.Context(), "k", "", []byte("x"))),
			} {
				if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("%s: got %v, want %q", op, err, c.want)
				}
				if errors.Is(err, fs.ErrNotExist) || errors.Is(err, bucket.ErrChanged) {
					t.Errorf("%s: %v passes for a missing or changed object", op, err)
				}
				if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hush") {
					t.Errorf("%s: %v tells a secret", op, err)
				}
			}
		})
	}
}

func TestAnUnreachableEndpointIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fake(t, func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		})
		_, err := b.Load(t.Context(), "k")
		if want := "the endpoint cannot be reached: check s3.endpoint"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// losing sends the n-th request and loses its answer.
type losing struct {
	n, sent atomic.Int32
}

func (l *losing) RoundTrip(r *http.Request) (*http.Response, error) {
	out, err := http.DefaultTransport.RoundTrip(r)
	if l.sent.Add(1) == l.n.Load() && err == nil {
		_, _ = io.Copy(io.Discard, out.Body)
		out.Body.Close()
		return nil, errors.New("connection reset by peer")
	}
	return out, err
}

func TestALostAnswerIsSettledByLooking(t *testing.T) {
	t.Parallel()
	l := &losing{}
	b := openNew(t, startGateway(t), "lost", "", Options{Transport: l})
	large := pattern(single + 1000)
	for name, write := range map[string]func(key string) error{
		"put":     func(key string) error { return second(b.Put(t.Context(), key, bucket.Bytes([]byte(key)))) },
		"swap":    func(key string) error { return second(b.Swap(t.Context(), key, "", []byte(key))) },
		"replace": func(key string) error { return b.Replace(t.Context(), key, bucket.Bytes([]byte(key))) },
		"large":   func(key string) error { return second(b.Put(t.Context(), key, large)) },
	} {
		for n, more := int32(1), true; more; n++ {
			l.n.Store(n)
			l.sent.Store(0)
			key := name + "/" + string('a'+n)
			if err := write(key); err != nil {
				t.Errorf("%s with answer %d lost: %v", name, n, err)
			}
			more = l.sent.Load() > n
			l.n.Store(0)
			if _, _, err := b.Get(t.Context(), key, 0); err != nil {
				t.Errorf("%s with answer %d lost: %v", name, n, err)
			}
		}
	}
}

// pattern is content of any size that takes no memory.
func pattern(size int64) bucket.Object {
	p := patterned{}
	d, err := digest.FromReader(io.NewSectionReader(p, 0, size))
	if err != nil {
		panic(err)
	}
	return bucket.Object{Size: size, Digest: d, Content: p}
}

type patterned struct{}

func (patterned) ReadAt(p []byte, at int64) (int, error) {
	for i := range p {
		x := uint64(at) + uint64(i)
		p[i] = byte(x ^ x>>9 ^ x>>17)
	}
	return len(p), nil
}

func TestALargeContentGoesInParts(t *testing.T) {
	t.Parallel()
	b := openNew(t, startGateway(t), "large", "p", Options{})
	o := pattern(single + 12345)
	if created, err := b.Put(t.Context(), "big", o); !created || err != nil {
		t.Fatalf("got %v, %v", created, err)
	}
	if created, err := b.Put(t.Context(), "big", o); created || err != nil {
		t.Errorf("again: got %v, %v; want false, nil", created, err)
	}
	body, info, err := b.Get(t.Context(), "big", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if d, err := digest.FromReader(body); err != nil || d != o.Digest || info.Size != o.Size {
		t.Errorf("got %s, %d bytes, %v", d, info.Size, err)
	}
	other := pattern(single + 12346)
	if _, err := b.Put(t.Context(), "big", other); !errors.Is(err, bucket.ErrDiffers) {
		t.Errorf("other content: got %v, want ErrDiffers", err)
	}
}

func TestALargeContentThatIsWrongLeavesNothing(t *testing.T) {
	t.Parallel()
	b := openNew(t, startGateway(t), "wrong", "", Options{})
	o := pattern(single + 1)
	o.Digest = digest.FromString("something else")
	_, err := b.Put(t.Context(), "big", o)
	if _, ok := errors.AsType[*bucket.ContentError](err); !ok {
		t.Errorf("got %v, want a ContentError", err)
	}
	if _, _, err := b.Get(t.Context(), "big", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want nothing there", err)
	}
	left, err := b.client.ListMultipartUploads(t.Context(), &api.ListMultipartUploadsInput{Bucket: &b.bucket})
	if err != nil || len(left.Uploads) != 0 {
		t.Errorf("got %d uploads left, %v; want none", len(left.Uploads), err)
	}
}
