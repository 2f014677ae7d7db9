package seal

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

var (
	// ErrNoIdentity says that there is nothing to open with.
	ErrNoIdentity = errors.New("it is encrypted, and the configuration has no identity to open it with: set backup[].identity on a machine that may read")
	// ErrOthers says that none of the identities opens it.
	ErrOthers = errors.New("it is encrypted to other recipients than backup[].identity belongs to")
	// ErrDamaged says that it is not what was sealed.
	ErrDamaged = errors.New("not what was encrypted")
)

// maxRecipients keeps a header below maxHead.
const maxRecipients = 20

// keyError says what a text is not, and nothing of what it is: see configs.
type keyError string

func (e keyError) Error() string { return string(e) }

// Discreet says that it may be printed of a secret.
func (keyError) Discreet() {}

// Sealer seals to recipients, and opens if it has identities. It may be used from many
// goroutines.
type Sealer struct {
	recipients []age.Recipient
	identities []age.Identity
	names      []string
}

// New reads public keys of recipients ("age1…"), of which there is one at least, and
// the text of an identity file, "" for none. Every fault starts with encrypt or identity.
func New(recipients []string, identity string) (*Sealer, error) {
	s := &Sealer{names: recipients}
	var errs []error
	if len(recipients) == 0 || len(recipients) > maxRecipients {
		errs = append(errs, fmt.Errorf("encrypt: %d recipients, where there are 1 to %d", len(recipients), maxRecipients))
	}
	for i, text := range recipients {
		r, err := recipient(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("encrypt[%d]: %w", i, err))
		}
		s.recipients = append(s.recipients, r)
	}
	if identity != "" {
		ids, err := age.ParseIdentities(strings.NewReader(identity))
		if err != nil {
			errs = append(errs, fmt.Errorf("identity: %w", keyError("not an age identity (age-keygen makes one: the line that begins with AGE-SECRET-KEY-)")))
		}
		s.identities = ids
	}
	if len(errs) == 0 {
		_, err := s.SealBytes(nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("encrypt: %w", err))
		}
	}
	return s, errors.Join(errs...)
}

func recipient(text string) (age.Recipient, error) {
	var r age.Recipient
	list, err := age.ParseRecipients(strings.NewReader(text))
	if err == nil && len(list) == 1 && strings.TrimSpace(text) == text {
		r = list[0]
	}
	switch r.(type) {
	case *age.X25519Recipient, *age.HybridRecipient:
		return r, nil
	}
	return nil, keyError("not the public key of an age recipient (age-keygen prints one; it begins with age1)")
}

// Recipients are those that New got.
func (s *Sealer) Recipients() []string { return s.names }

// Opens reports whether there is an identity.
func (s *Sealer) Opens() bool { return len(s.identities) > 0 }
