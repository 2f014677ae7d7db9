package ecr

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lastro/mirror"
)

func TestALoginIsAskedForOverTheNetwork(t *testing.T) {
	for _, host := range []string{privateHostName, publicHostName} {
		t.Run(host, func(t *testing.T) {
			alone(t)
			srv := httptest.NewServer(&fakeAWS{t: t})
			defer srv.Close()
			var l Logins
			username, password, expires, err := l.Login(t.Context(), host, Settings{Endpoint: srv.URL})
			if username != "AWS" || password != "secret-1" || time.Until(expires) < 11*time.Hour || err != nil {
				t.Errorf("got %s, %s, %v, %v", username, password, expires, err)
			}
		})
	}
}

func TestEachRegistryIsAskedWhereItIs(t *testing.T) {
	for _, c := range []struct {
		name, host string
		s          Settings
		want       string
	}{
		{"private", privateHostName, Settings{}, "api.ecr.eu-central-1.amazonaws.com AKIDENV eu-central-1"},
		{"FIPS", "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", Settings{}, "api.ecr-fips.us-east-1.amazonaws.com AKIDENV us-east-1"},
		{"dual stack", "123456789012.dkr-ecr.us-west-2.on.aws", Settings{}, "ecr.us-west-2.api.aws AKIDENV us-west-2"},
		{"China", "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Settings{}, "api.ecr.cn-north-1.amazonaws.com.cn AKIDENV cn-north-1"},
		{"public", publicHostName, Settings{}, "api.ecr-public.us-east-1.amazonaws.com AKIDENV us-east-1"},
		{"another region", privateHostName, Settings{Region: "eu-west-1"}, "api.ecr.eu-west-1.amazonaws.com AKIDENV eu-west-1"},
		{"an endpoint", "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", Settings{Endpoint: "https://vpce.test"}, "vpce.test AKIDENV us-east-1"},
		{"a role", privateHostName, Settings{Role: roleName}, "api.ecr.eu-central-1.amazonaws.com AKIDROLE eu-central-1"},
		{"a profile", privateHostName, Settings{Profile: "other"}, "api.ecr.eu-central-1.amazonaws.com AKIDPROFILE eu-central-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			alone(t)
			if err := os.WriteFile(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), []byte("[other]\naws_access_key_id=AKIDPROFILE\naws_secret_access_key=x\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			aws := &fakeAWS{t: t}
			l := Logins{Transport: aws}
			if _, _, _, err := l.Login(t.Context(), c.host, c.s); err != nil {
				t.Fatal(err)
			}
			if got := aws.asked.Load(); got != c.want {
				t.Errorf("asked %s, want %s", got, c.want)
			}
		})
	}
}

func TestOtherHostsAreNotAskedFor(t *testing.T) {
	alone(t)
	aws := &fakeAWS{t: t}
	l := Logins{Transport: aws}
	_, _, _, err := l.Login(t.Context(), "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.test", Settings{})
	wantError(t, err, "evil.test", "not a host of Amazon ECR")
	if aws.requests.Load() != 0 {
		t.Error("AWS was asked")
	}
}

func TestALoginIsRememberedByWhatItIsFor(t *testing.T) {
	alone(t)
	aws := &fakeAWS{t: t}
	l := Logins{Transport: aws}
	for i, c := range []struct {
		host string
		s    Settings
		want int64 // requests so far
	}{
		{privateHostName, Settings{}, 1},
		{privateHostName, Settings{}, 1},
		{publicHostName, Settings{}, 2},
		{"210987654321.dkr.ecr.eu-central-1.amazonaws.com", Settings{}, 3},
		{"123456789012.dkr.ecr.us-east-1.amazonaws.com", Settings{}, 4},
		{privateHostName, Settings{Role: roleName}, 6},
		{privateHostName, Settings{}, 6},
	} {
		if _, _, _, err := l.Login(t.Context(), c.host, c.s); err != nil || aws.requests.Load() != c.want {
			t.Errorf("login %d: %d requests, %v", i, aws.requests.Load(), err)
		}
	}
}

// passwordAfter waits and logs in.
func passwordAfter(t *testing.T, l *Logins, d time.Duration) string {
	t.Helper()
	time.Sleep(d)
	_, password, _, err := l.Login(t.Context(), privateHostName, Settings{})
	if err != nil {
		return err.Error()
	}
	return password
}

func TestALoginIsRenewedAfterFourFifthsOfItsLife(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		aws := &fakeAWS{t: t, life: 10 * time.Hour}
		l := &Logins{Transport: aws}
		for i, c := range []struct {
			wait time.Duration
			want string
		}{
			{0, "secret-1"},
			{8*time.Hour - time.Second, "secret-1"},
			{2 * time.Second, "secret-2"},
			{time.Minute, "secret-2"},
		} {
			if got := passwordAfter(t, l, c.wait); got != c.want {
				t.Errorf("login %d: %s, want %s", i, got, c.want)
			}
		}
	})
}

func TestAnOldLoginStandsInForOneThatDoesNotCome(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		aws := &fakeAWS{t: t, life: 10 * time.Hour}
		l := &Logins{Transport: aws, Log: slog.New(slog.NewTextHandler(&log, nil))}
		passwordAfter(t, l, 0)
		aws.fail.Store(failing(400, "AccessDeniedException", "no longer"))
		for i, c := range []struct {
			wait     time.Duration
			want     string
			requests int64
		}{
			{9 * time.Hour, "secret-1", 2},
			{errorLife - time.Second, "secret-1", 2},
			{2 * time.Second, "secret-1", 3},
			{time.Hour, "no longer", 4},
		} {
			if got := passwordAfter(t, l, c.wait); !strings.Contains(got, c.want) || aws.requests.Load() != c.requests {
				t.Errorf("login %d: %s, %d requests", i, got, aws.requests.Load())
			}
		}
		if strings.Count(log.String(), "not renewed yet") != 2 || strings.Contains(log.String(), "secret") {
			t.Errorf("log: %s", log.String())
		}
		aws.fail.Store(nil)
		if got := passwordAfter(t, l, errorLife+time.Second); got != "secret-5" {
			t.Errorf("after the fault: %s", got)
		}
	})
}

func TestARefusalIsRememberedForAWhile(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		aws := &fakeAWS{t: t}
		aws.fail.Store(failing(400, "AccessDeniedException", "no"))
		l := &Logins{Transport: aws}
		first, again := passwordAfter(t, l, 0), passwordAfter(t, l, errorLife-time.Second)
		if first != again || aws.requests.Load() != 1 {
			t.Errorf("%s, %s, %d requests", first, again, aws.requests.Load())
		}
		aws.fail.Store(nil)
		if got := passwordAfter(t, l, 2*time.Second); got != "secret-2" {
			t.Errorf("later: %s", got)
		}
	})
}

// slowAWS answers after five seconds.
type slowAWS struct{ *fakeAWS }

func (s slowAWS) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(5 * time.Second):
		return s.fakeAWS.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func TestThoseWhoNeedTheSameLoginWaitForOneRequest(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		aws := slowAWS{&fakeAWS{t: t}}
		l := &Logins{Transport: aws}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := passwordAfter(t, l, 0); got != "secret-1" {
					t.Errorf("got %s", got)
				}
			})
		}
		wg.Wait()
		if n := aws.requests.Load(); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestACallerWaitsNoLongerThanItsContext(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		aws := slowAWS{&fakeAWS{t: t}}
		l := &Logins{Transport: aws}
		var wg sync.WaitGroup
		for _, patience := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} { // the first asks, two wait
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				started := time.Now()
				_, _, _, err := l.Login(ctx, privateHostName, Settings{})
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) != patience {
					t.Errorf("%v after %v", err, time.Since(started))
				}
			})
		}
		wg.Wait()
		if got := passwordAfter(t, l, 0); got != "secret-1" {
			t.Errorf("the next caller gets %s", got)
		}
	})
}

// deafAWS never answers.
type deafAWS struct{}

func (deafAWS) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestAWSThatDoesNotAnswerIsGivenUp(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		l := &Logins{Transport: deafAWS{}}
		_, _, _, err := l.Login(t.Context(), privateHostName, Settings{})
		wantError(t, err, privateHostName, "AWS does not answer", "check the network")
		if took := time.Since(started); took != loginTimeout {
			t.Errorf("took %v", took)
		}
	})
}

// deafLater answers the first request only.
type deafLater struct{ *fakeAWS }

func (d deafLater) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.requests.Load() > 0 {
		return deafAWS{}.RoundTrip(r)
	}
	return d.fakeAWS.RoundTrip(r)
}

func TestARenewalDoesNotHoldUpThoseWhoHaveALogin(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		l := &Logins{Transport: deafLater{&fakeAWS{t: t}}}
		passwordAfter(t, l, 0)
		time.Sleep(10 * time.Hour)
		started := time.Now()
		if got := passwordAfter(t, l, 0); got != "secret-1" || time.Since(started) != renewTimeout {
			t.Errorf("%s after %v", got, time.Since(started))
		}
	})
}

func TestAnAnswerWithoutALoginIsRefused(t *testing.T) {
	for _, host := range []string{privateHostName, publicHostName} {
		alone(t)
		aws := &fakeAWS{t: t}
		empty := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			_, _ = io.WriteString(w, "{}")
		})
		aws.fail.Store(&empty)
		l := Logins{Transport: aws}
		_, _, _, err := l.Login(t.Context(), host, Settings{})
		wantError(t, err, host, "no login that can be used")
	}
}

func TestThrottledRequestsAreSentAgainLater(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		aws := &fakeAWS{t: t}
		no := *failing(400, "ThrottlingException", "Rate exceeded")
		twice := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if aws.requests.Load() == 2 {
				aws.fail.Store(nil)
			}
			no(w, r)
		})
		aws.fail.Store(&twice)
		if got := passwordAfter(t, &Logins{Transport: aws}, 0); got != "secret-3" {
			t.Errorf("got %s", got)
		}
	})
}

func TestALoginThatStaysThrottledSaysWhenToComeBack(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		aws := &fakeAWS{t: t}
		aws.fail.Store(failing(400, "ThrottlingException", "Rate exceeded"))
		l := &Logins{Transport: aws}
		_, _, _, err := l.Login(t.Context(), privateHostName, Settings{})
		throttled, ok := errors.AsType[*mirror.ThrottledError](err)
		if !ok || throttled.Host != privateHostName || !throttled.Until.After(time.Now()) || aws.requests.Load() != attempts {
			t.Errorf("%v after %d requests", err, aws.requests.Load())
		}
		wantError(t, err, "Rate exceeded")
	})
}

func TestErrorsSayWhoLacksWhat(t *testing.T) {
	const denied = "User: arn:aws:iam::123456789012:user/me is not authorized"
	for _, c := range []struct {
		name, host string
		s          Settings
		code, text string
		want       []string
	}{
		{"a denied login", privateHostName, Settings{}, "AccessDeniedException", denied, []string{privateHostName, "user/me is not authorized", "allow it ecr:GetAuthorizationToken", "EnvConfigCredentials"}},
		{"a denied public login", publicHostName, Settings{}, "AccessDeniedException", denied, []string{"ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken"}},
		{"a denied role", privateHostName, Settings{Role: roleName}, "AccessDenied", denied, []string{"user/me", "allow it sts:AssumeRole on " + roleName}},
		{"an expired session", privateHostName, Settings{}, "ExpiredTokenException", "The security token is expired", []string{"renew the AWS credentials"}},
		{"an unknown key", privateHostName, Settings{}, "UnrecognizedClientException", "The security token is invalid", []string{"check the access key"}},
		{"a signature that does not match", privateHostName, Settings{}, "InvalidSignatureException", "The canonical string should have been x-amz-security-token:" + sessionToken, []string{"InvalidSignatureException (", "clock"}},
		{"a server that repeats the token", privateHostName, Settings{}, "AccessDeniedException", strings.Repeat("x", maxCause-len("AccessDeniedException: "+sessionToken)-10) + sessionToken + sessionToken, []string{"xxx……"}},
		{"control characters", privateHostName, Settings{}, "AccessDeniedException", "a\x1b[2J\nb", []string{"a [2J b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			alone(t)
			aws := &fakeAWS{t: t}
			aws.fail.Store(failing(400, c.code, c.text))
			l := Logins{Transport: aws}
			_, _, _, err := l.Login(t.Context(), c.host, c.s)
			wantError(t, err, c.want...)
			if strings.Contains(err.Error(), "secret-s") {
				t.Errorf("%q tells a part of a secret", err)
			}
		})
	}
}

func TestMissingCredentialsAreTold(t *testing.T) {
	without(t)
	var l Logins
	_, _, _, err := l.Login(t.Context(), publicHostName, Settings{})
	wantError(t, err, "no AWS credentials", "AWS_ACCESS_KEY_ID")
	if !errors.Is(err, ErrNoCredentials) {
		t.Error("it is not ErrNoCredentials")
	}
	_, _, _, err = l.Login(t.Context(), publicHostName, Settings{Profile: "mirror"})
	wantError(t, err, `no profile "mirror"`, "ecr.profile")
}

// closedAWS is an endpoint where nobody listens.
type closedAWS struct{}

func (closedAWS) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

func TestAnEndpointThatCannotBeReachedIsTold(t *testing.T) {
	alone(t)
	synctest.Test(t, func(t *testing.T) {
		l := &Logins{Transport: closedAWS{}}
		_, _, _, err := l.Login(t.Context(), privateHostName, Settings{Endpoint: "https://vpce.test"})
		wantError(t, err, "check the network and ecr.endpoint", "refused")
	})
}

func TestALoginThatCannotBeUsedIsRefused(t *testing.T) {
	now := time.Now()
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		name, token string
		expires     time.Time
		want        string
	}{
		{"no token", "", now.Add(time.Hour), "no login that can be used"},
		{"not base64", "secret!", now.Add(time.Hour), "no login that can be used"},
		{"no colon", encoded("secret"), now.Add(time.Hour), "no login that can be used"},
		{"no name", encoded(":secret"), now.Add(time.Hour), "no login that can be used"},
		{"no password", encoded("AWS:"), now.Add(time.Hour), "no login that can be used"},
		{"a line break", encoded("AWS:secret\r\nHost: x"), now.Add(time.Hour), "no login that can be used"},
		{"expired", encoded("AWS:secret"), now, "clock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(c.token, c.expires, now)
			wantError(t, err, c.want)
		})
	}
	if c, err := parse(encoded("AWS:a:b"), time.Time{}, now); c.password != "a:b" || c.expires != now.Add(tokenLife) || err != nil {
		t.Errorf("a token without an end: %v, %v", c, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("QVdTOnNlY3JldA==", int64(1))
	f.Fuzz(func(t *testing.T, token string, life int64) {
		now := time.Unix(1_000_000, 0)
		c, err := parse(token, now.Add(time.Duration(life)), now)
		if err == nil && (c.username == "" || c.password == "" || strings.ContainsAny(c.username+c.password, "\r\n") || !c.expires.After(now)) {
			t.Errorf("%q gives %+v", token, c)
		}
		if err != nil && len(token) > 8 && strings.Contains(err.Error(), token) {
			t.Errorf("%v tells the token", err)
		}
	})
}
