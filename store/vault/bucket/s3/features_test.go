package s3

import (
	"errors"
	"net/http/httptest"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
)

// onFake opens a bucket of the small server.
func onFake(t *testing.T, fake *buckettest.Server, s Settings) *remote {
	t.Helper()
	srv := httptest.NewServer(fake)
	t.Cleanup(srv.Close)
	s.Endpoint, s.Credentials = srv.URL, Credentials{AccessKey: "k", SecretKey: "s"}
	b, err := Open(t.Context(), "b", "p", s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b.(*remote)
}

func TestAServerWithoutConditionsIsABucketForOne(t *testing.T) {
	b := onFake(t, &buckettest.Server{RefuseConditions: true}, Settings{})
	refused := []error{second(b.Put(t.Context(), "a", bucket.Bytes([]byte("x")))), second(b.Swap(t.Context(), "r", "", []byte("x")))}
	for _, err := range refused {
		if !errors.Is(err, bucket.ErrNoConditions) {
			t.Errorf("got %v, want ErrNoConditions", err)
		}
	}
	b.Adapt(bucket.Lacks{Conditions: true})
	for i, want := range []bool{true, false} {
		if created, err := b.Put(t.Context(), "a", bucket.Bytes([]byte("x"))); created != want || err != nil {
			t.Errorf("put %d: got created %v, %v", i, created, err)
		}
	}
	if _, err := b.Put(t.Context(), "a", bucket.Bytes([]byte("y"))); !errors.Is(err, bucket.ErrDiffers) {
		t.Errorf("other bytes: got %v, want ErrDiffers", err)
	}
	etag, err := b.Swap(t.Context(), "r", "", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"", `"other"`} {
		if _, err := b.Swap(t.Context(), "r", old, []byte("2")); !errors.Is(err, bucket.ErrChanged) {
			t.Errorf("from %q: got %v, want ErrChanged", old, err)
		}
	}
	if _, err := b.Swap(t.Context(), "r", etag, []byte("2")); err != nil {
		t.Error(err)
	}
}

func TestAHashThatProvesNothingIsNotBelieved(t *testing.T) {
	b := onFake(t, &buckettest.Server{IgnoreChecksum: true}, Settings{})
	if refused, err := b.RefusesWrong(t.Context(), "a"); refused || err != nil {
		t.Fatalf("got refused %v, %v", refused, err)
	}
	meant := bucket.Bytes([]byte(wrongMeant))
	if _, err := b.Put(t.Context(), "a", meant); err != nil {
		t.Errorf("what the server says: got %v, want it believed", err)
	}
	b.Adapt(bucket.Lacks{Checksums: true})
	if _, err := b.Put(t.Context(), "a", meant); !errors.Is(err, bucket.ErrDiffers) {
		t.Errorf("got %v, want ErrDiffers", err)
	}
}

func TestWhatARealServerDoesIsSeen(t *testing.T) {
	t.Parallel()
	s := startGateway(t)
	plain, versions, locked := openNew(t, s, "plain", "p", Options{}), openNew(t, s, "versions", "p", Options{}), openLocked(t, s, "locked", Options{})
	enableVersions(t, versions)
	for _, c := range []struct {
		b    *remote
		want bucket.Features
	}{
		{plain, bucket.Features{}},
		{versions, bucket.Features{Versions: true}},
		{locked, bucket.Features{Versions: true, Lock: true}},
	} {
		got, err := c.b.Features(t.Context())
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.b, err, diff)
		}
		if refused, err := c.b.RefusesWrong(t.Context(), "wrong"); !refused || err != nil {
			t.Errorf("%s: wrong bytes refused: %v, %v", c.b, refused, err)
		}
	}
}

// openLocked makes a bucket with Object Lock.
func openLocked(t *testing.T, s Settings, name string, o Options) *remote {
	t.Helper()
	b, err := Open(t.Context(), name, "p", s, o)
	if err != nil {
		t.Fatal(err)
	}
	r := b.(*remote)
	if _, err := r.client.CreateBucket(t.Context(), &api.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: new(true)}); err != nil {
		t.Fatal(err)
	}
	enableVersions(t, r)
	return r
}
