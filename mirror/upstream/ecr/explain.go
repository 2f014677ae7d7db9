package ecr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"

	"lastro/mirror"
)

// ErrNoCredentials says that the AWS SDK's chain found no credentials.
var ErrNoCredentials = errors.New("no AWS credentials")

// fault is an error of the SDK in our words: its own may repeat what was signed,
// which holds a session's token.
type fault struct {
	text string
	err  error
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.err }

func (k key) notConfigured(err error) error {
	if _, ok := errors.AsType[config.SharedConfigProfileNotExistError](err); ok {
		return &fault{fmt.Sprintf("AWS has no profile %q: correct ecr.profile, or add it to AWS's configuration files", k.Profile), err}
	}
	return &fault{"AWS configuration of the environment: " + plain(err.Error()), err}
}

func (k key) noCredentials(err error) error {
	from := "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give this machine a role"
	if k.Profile != "" {
		from = fmt.Sprintf("check the profile %q", k.Profile)
	}
	return fmt.Errorf("%w: %w", ErrNoCredentials, &fault{fmt.Sprintf("%s (%s)", from, cause(err, aws.Credentials{})), err})
}

// permission is what the login needs.
func (k key) permission() string {
	if k.Public {
		return "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken"
	}
	return "ecr:GetAuthorizationToken"
}

// explain says what AWS refused to whom, and what can be done.
func (k key) explain(err error, who aws.Credentials, permission string) error {
	if throttled(err) {
		return &mirror.ThrottledError{Host: k.host, Until: time.Now().Add(errorLife), Err: &fault{cause(err, who), err}}
	}
	return &fault{fmt.Sprintf("%s (with the AWS credentials of %s): %s", cause(err, who), identity(who), k.advice(err, permission)), err}
}

func throttled(err error) bool {
	return retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}.IsErrorThrottle(err) == aws.TrueTernary
}

// identity is where credentials come from, in the SDK's words.
func identity(who aws.Credentials) string {
	if who.AccountID != "" {
		return who.Source + ", account " + who.AccountID
	}
	return who.Source
}

var (
	deniedCodes  = []string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"}
	expiredCodes = []string{"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
	unknownCodes = []string{"UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "RequestExpired", "InvalidAccessKeyId"}
)

func (k key) advice(err error, permission string) string {
	switch code := code(err); {
	case slices.Contains(deniedCodes, code):
		return "allow it " + permission
	case slices.Contains(expiredCodes, code):
		return "renew the AWS credentials"
	case slices.Contains(unknownCodes, code):
		return "check the access key, its secret key and this machine's clock"
	case code == "" && k.Endpoint != "":
		return "check the network and ecr.endpoint"
	case code == "":
		return "check the network, the region and the proxy (HTTPS_PROXY)"
	}
	return "try again later"
}

func code(err error) string {
	if a, ok := errors.AsType[smithy.APIError](err); ok {
		return a.ErrorCode()
	}
	return ""
}

// cause is the part of an error that tells something. A signature that does not
// match is answered with all that was signed, and that part is left out.
func cause(err error, who aws.Credentials) string {
	a, ok := errors.AsType[smithy.APIError](err)
	switch {
	case ok && slices.Contains(unknownCodes, a.ErrorCode()):
		return plain(a.ErrorCode())
	case ok:
		return plain(masked(strings.Trim(a.ErrorCode()+": "+a.ErrorMessage(), ": "), who))
	case errors.Is(err, context.DeadlineExceeded):
		return "AWS does not answer"
	}
	return plain(masked(err.Error(), who))
}

// masked takes credentials out of a text that a server sends back.
func masked(text string, who aws.Credentials) string {
	for _, secret := range []string{who.SecretAccessKey, who.SessionToken} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return text
}

const maxCause = 400

// plain makes one short line of what a server sent.
func plain(text string) string { return mirror.Line(text, maxCause) }
