package s3

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
)

func TestSettingsOfStorageAreSent(t *testing.T) {
	kms := Settings{StorageClass: "STANDARD_IA", SSE: SSE{KMSKey: "alias/backups"}}
	const class, sse, key = "X-Amz-Storage-Class", "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"
	encrypted := map[string]string{sse: "aws:kms", key: "alias/backups"}
	both := map[string]string{class: "STANDARD_IA", sse: "aws:kms", key: "alias/backups"}
	bulk, large := bucket.Bytes([]byte("x")), pattern(single+1)
	bulk.Bulk, large.Bulk = true, true
	for _, c := range []struct {
		name  string
		set   Settings
		write func(*testing.T, *remote) error
		want  map[string]string
	}{
		{"nothing is asked by default", Settings{}, func(t *testing.T, r *remote) error { return second(r.Put(t.Context(), "k", bulk)) }, map[string]string{}},
		{"bulk goes to the class", kms, func(t *testing.T, r *remote) error { return second(r.Put(t.Context(), "k", bulk)) }, both},
		{"bulk in parts goes there too", kms, func(t *testing.T, r *remote) error { return second(r.Put(t.Context(), "k", large)) }, both},
		{"bulk that replaces goes there too", kms, func(t *testing.T, r *remote) error { return r.Replace(t.Context(), "k", bulk) }, both},
		{"what is not bulk stays with the bucket's class", kms, func(t *testing.T, r *remote) error {
			return second(r.Put(t.Context(), "k", bucket.Bytes([]byte("x"))))
		}, encrypted},
		{"records stay with the bucket's class", kms, func(t *testing.T, r *remote) error { return second(r.Swap(t.Context(), "k", "", []byte("x"))) }, encrypted},
		{"a key of the server's own", Settings{SSE: SSE{AES256: true}}, func(t *testing.T, r *remote) error { return second(r.Put(t.Context(), "k", bulk)) }, map[string]string{sse: "AES256"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got map[string]string
			server := &buckettest.Server{Seen: func(r *http.Request) (int, string) {
				if r.Method == http.MethodHead {
					return 0, ""
				}
				got = map[string]string{}
				for _, name := range []string{class, sse, key} {
					if v := r.Header.Get(name); v != "" {
						got[name] = v
					}
				}
				return 400, "Enough"
			}}
			if err := c.write(t, onFake(t, server, c.set)); err == nil {
				t.Error("got no error, want the server's")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefusedSettingsAreNamed(t *testing.T) {
	for code, want := range map[string]string{
		"InvalidStorageClass":   "set another s3.storage-class",
		"KMS.NotFoundException": "check s3.sse.kms-key",
	} {
		b := onFake(t, &buckettest.Server{Seen: func(*http.Request) (int, string) { return 400, code }}, Settings{})
		if err := b.Replace(t.Context(), "k", bucket.Bytes(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", code, err, want)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for want, s := range map[string]Settings{
		"": {StorageClass: "GLACIER_IR", SSE: SSE{KMSKey: "k"}},
		"storage-class: what lies in GLACIER must be thawed":          {StorageClass: "GLACIER"},
		"storage-class: what lies in DEEP_ARCHIVE":                    {StorageClass: "DEEP_ARCHIVE"},
		"object-lock.mode: \"legal\" is not governance or compliance": {ObjectLock: &ObjectLock{Mode: "legal", Retain: month}},
		"object-lock.retain: must be two days or more":                {ObjectLock: &ObjectLock{Mode: "compliance", Retain: time.Hour}},
	} {
		if err := s.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := new(SSE).UnmarshalText([]byte("aws:kms")); err == nil || !strings.Contains(err.Error(), `"aes256", or a mapping with kms-key`) {
		t.Errorf("got %v", err)
	}
}
