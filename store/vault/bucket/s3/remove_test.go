package s3

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lastro/store/vault/bucket"
)

// deletes is a server that notes what it is asked to remove, and answers in turn.
type deletes struct {
	bodies  []string
	answers []func(*http.Request) *http.Response
}

func (d *deletes) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodHead {
		return answer(r, 200, http.Header{"Content-Length": {"1"}, "X-Amz-Object-Lock-Retain-Until-Date": {"2030-01-02T03:04:05Z"}}, ""), nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	d.bodies = append(d.bodies, string(body))
	return d.answers[min(len(d.bodies), len(d.answers))-1](r), nil
}

func results(items ...string) func(*http.Request) *http.Response {
	return func(r *http.Request) *http.Response {
		return answer(r, 200, nil, "<DeleteResult>"+strings.Join(items, "")+"</DeleteResult>")
	}
}

func fault(status int, code string) func(*http.Request) *http.Response {
	return func(r *http.Request) *http.Response { return apiError(r, status, code) }
}

func gone(key, version string) string {
	return fmt.Sprintf("<Deleted><Key>p/%s</Key><VersionId>%s</VersionId></Deleted>", key, version)
}

func refused(key, version, code string) string {
	return fmt.Sprintf("<Error><Key>p/%s</Key><VersionId>%s</VersionId><Code>%s</Code><Message>m</Message></Error>", key, version, code)
}

func TestRemovalsAreSentAgainOnlyWhereTheyNameAVersion(t *testing.T) {
	both := []bucket.Info{{Key: "a", Version: "1"}, {Key: "b", Version: "2"}}
	plain := []bucket.Info{{Key: "a"}}
	for _, c := range []struct {
		name     string
		objects  []bucket.Info
		answers  []func(*http.Request) *http.Response
		requests int
		fails    bool
	}{
		{"versions are sent again after a fault", both, []func(*http.Request) *http.Response{fault(500, "InternalError"), results(gone("a", "1"), gone("b", "2"))}, 2, false},
		{"only those of a batch are sent again that failed", both, []func(*http.Request) *http.Response{results(gone("a", "1"), refused("b", "2", "InternalError")), results(gone("b", "2"))}, 2, false},
		{"what is not there is done", both, []func(*http.Request) *http.Response{results(refused("a", "1", "NoSuchVersion"), refused("b", "2", "NoSuchKey"))}, 1, false},
		{"a plain removal is sent once, whatever the server says", plain, []func(*http.Request) *http.Response{fault(503, "SlowDown"), results(gone("a", ""))}, 1, true},
		{"a plain removal that failed alone is not sent again", plain, []func(*http.Request) *http.Response{results(refused("a", "", "InternalError"))}, 1, true},
		{"an answer without a word about an object is a fault", plain, []func(*http.Request) *http.Response{results()}, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &deletes{answers: c.answers}
				kept, err := fake(t, d.RoundTrip).Remove(t.Context(), c.objects)
				if len(d.bodies) != c.requests || (err != nil) != c.fails || len(kept) > 0 {
					t.Errorf("got %v, %v after %d requests", kept, err, len(d.bodies))
				}
				if c.requests == 2 && strings.Contains(c.name, "only") && strings.Contains(d.bodies[1], "p/a") {
					t.Errorf("sent again: %s", d.bodies[1])
				}
			})
		})
	}
}

func TestWhatStaysSaysWhy(t *testing.T) {
	d := &deletes{answers: []func(*http.Request) *http.Response{results(refused("a", "1", "AccessDenied"), gone("b", "2"))}}
	kept, err := fake(t, d.RoundTrip).Remove(t.Context(), []bucket.Info{{Key: "a", Version: "1"}, {Key: "b", Version: "2"}, {Key: "../other"}})
	if err != nil || len(kept) != 2 || !errors.Is(kept[0].Err, fs.ErrInvalid) {
		t.Fatalf("got %v, %v", kept, err)
	}
	locked, ok := errors.AsType[*bucket.LockedError](kept[1].Err)
	if want := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC); !ok || !locked.Until.Equal(want) || kept[1].Key != "a" || kept[1].Version != "1" {
		t.Errorf("got %+v, want a lock until %v", kept[1], want)
	}
	if strings.Contains(d.bodies[0], "other") {
		t.Errorf("what lies outside was named: %s", d.bodies[0])
	}
}

func TestADeniedRemovalWithoutALockIsDenied(t *testing.T) {
	b := fake(t, func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodHead {
			return answer(r, 200, http.Header{"Content-Length": {"1"}}, ""), nil
		}
		drain(r)
		return results(refused("a", "", "AccessDenied"))(r), nil
	})
	kept, err := b.Remove(t.Context(), []bucket.Info{{Key: "a"}})
	if err != nil || len(kept) != 1 || !errors.Is(kept[0].Err, fs.ErrPermission) || !strings.Contains(kept[0].Err.Error(), "s3:DeleteObject") {
		t.Errorf("got %v, %v", kept, err)
	}
}

func TestManyRemovalsGoInBatches(t *testing.T) {
	t.Parallel()
	requests := 0
	b := openNew(t, startGateway(t), "many", "p", Options{Sent: func() { requests++ }})
	var objects []bucket.Info
	for i := range maxDelete + 5 {
		objects = append(objects, bucket.Info{Key: fmt.Sprint("none/", i)})
	}
	requests = 0
	if kept, err := b.Remove(t.Context(), objects); err != nil || len(kept) > 0 || requests != 2 {
		t.Errorf("got %d kept, %v, %d requests; want two", len(kept), err, requests)
	}
}

// TestARemovedVersionIsNotTheOneThatCameAfter is the pruner that slept: a blob was
// uploaded again after its plan.
func TestARemovedVersionIsNotTheOneThatCameAfter(t *testing.T) {
	t.Parallel()
	b := openNew(t, startGateway(t), "sleeper", "p", Options{})
	enableVersions(t, b)
	plan := listed(t, b, "blobs/")
	for range 2 {
		if _, err := b.Put(t.Context(), "blobs/a", bucket.Bytes([]byte("a"))); err != nil {
			t.Fatal(err)
		}
		if plan == nil {
			plan = listed(t, b, "blobs/")
		}
		if _, err := b.Remove(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
	}
	if got := listed(t, b, "blobs/"); len(got) != 1 || got[0].Version == plan[0].Version || got[0].Version == "" {
		t.Errorf("got %+v, want the second version", got)
	}
}

func listed(t *testing.T, b bucket.Reader, prefix string) (list []bucket.Info) {
	t.Helper()
	for info, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info)
	}
	return list
}

func TestAVersionThatALaterWriteMayReplaceHasNoName(t *testing.T) {
	b := fake(t, func(r *http.Request) (*http.Response, error) {
		if r.URL.Query().Has("versioning") {
			return answer(r, 200, nil, "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"), nil
		}
		return answer(r, 200, nil, `<ListVersionsResult><Version><Key>p/a</Key><VersionId>null</VersionId><IsLatest>true</IsLatest><Size>1</Size></Version>
<Version><Key>p/b</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest><Size>1</Size></Version>
<Version><Key>p/b</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest><Size>1</Size></Version>
<DeleteMarker><Key>p/c</Key><VersionId>v9</VersionId><IsLatest>true</IsLatest></DeleteMarker></ListVersionsResult>`), nil
	})
	want := []bucket.Info{{Key: "a", Size: 1}, {Key: "b", Size: 1, Version: "v2"}}
	if diff := cmp.Diff(want, listed(t, b, "")); diff != "" {
		t.Error(diff)
	}
}
