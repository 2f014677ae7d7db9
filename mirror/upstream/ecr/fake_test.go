package ecr

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	privateHostName = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	publicHostName  = "public.ecr.aws"
	roleName        = "arn:aws:iam::123456789012:role/mirror"

	secretKey    = "secret-key-of-the-environment"
	sessionToken = "secret-session-token"
	assumedKey   = "secret-key-of-the-role"
)

// alone leaves nothing of the machine's own AWS configuration, and sets the
// credentials of the tests.
func alone(t *testing.T) {
	t.Helper()
	without(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	t.Setenv("AWS_SESSION_TOKEN", sessionToken)
}

// without leaves no credentials either.
func without(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS",
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
		"AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_CA_BUNDLE", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/credentials")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// fakeAWS is the two registries' APIs and STS. It answers only what is signed
// and written as AWS wants it.
type fakeAWS struct {
	t        *testing.T
	requests atomic.Int64
	fail     atomic.Pointer[http.HandlerFunc] // answers in place of all
	life     time.Duration                    // of a login; 0: twelve hours
	asked    atomic.Value                     // host and key of the last request
}

func (f *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := f.requests.Add(1)
	f.asked.Store(r.Host + " " + signedBy(r))
	if r.Method != http.MethodPost || r.URL.Path != "/" || signedBy(r) == "" || r.Header.Get("X-Amz-Date") == "" {
		f.t.Errorf("%s %s is signed by %q", r.Method, r.URL.Path, signedBy(r))
	}
	if fail := f.fail.Load(); fail != nil {
		(*fail)(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	data := map[string]any{"authorizationToken": token(n), "expiresAt": float64(time.Now().Add(f.lifetime()).UnixMilli()) / 1000}
	switch target := r.Header.Get("X-Amz-Target"); {
	case strings.Contains(string(body), "Action=AssumeRole"):
		f.assume(w, string(body))
	case target == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken":
		f.answer(w, r, "ecr", []any{data})
	case target == "SpencerFrontendService.GetAuthorizationToken":
		f.answer(w, r, "ecr-public", data)
	default:
		f.t.Errorf("nobody knows %q", target)
		w.WriteHeader(http.StatusBadRequest)
	}
}

// token is what the nth request gets.
func token(n int64) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "AWS:secret-%d", n))
}

func (f *fakeAWS) lifetime() time.Duration {
	if f.life == 0 {
		return 12 * time.Hour
	}
	return f.life
}

func (f *fakeAWS) answer(w http.ResponseWriter, r *http.Request, service string, data any) {
	if kind := r.Header.Get("Content-Type"); kind != "application/x-amz-json-1.1" {
		f.t.Errorf("content type %q", kind)
	}
	if auth := r.Header.Get("Authorization"); !strings.Contains(auth, "/"+service+"/aws4_request") {
		f.t.Errorf("signed for another service: %s", auth)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(map[string]any{"authorizationData": data})
}

func (f *fakeAWS) assume(w http.ResponseWriter, body string) {
	if !strings.Contains(body, "role%2Fmirror") || !strings.Contains(body, "RoleSessionName=lastro") {
		f.t.Errorf("assumes another role: %s", body)
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/mirror/lastro</Arn><AssumedRoleId>X:lastro</AssumedRoleId></AssumedRoleUser>`+
		`<Credentials><AccessKeyId>AKIDROLE</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
		assumedKey, sessionToken, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

// signedBy is the key id of a request's signature, with region.
func signedBy(r *http.Request) string {
	_, scope, ok := strings.Cut(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=")
	parts := strings.Split(scope, "/")
	if !ok || len(parts) < 5 || !strings.Contains(scope, "Signature=") {
		return ""
	}
	return parts[0] + " " + parts[2]
}

// failing answers as AWS does when it refuses.
func failing(status int, code, message string) *http.HandlerFunc {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "" {
			w.Header().Set("Content-Type", "text/xml")
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`, code, message)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
	})
	return &h
}

// RoundTrip answers without a network, for tests that run on fake time.
func (f *fakeAWS) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	r.Host = r.URL.Host
	f.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// wantError checks that an error holds all of the words, and no secret.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
	for _, secret := range []string{secretKey, sessionToken, assumedKey} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q tells a secret", err)
		}
	}
}
