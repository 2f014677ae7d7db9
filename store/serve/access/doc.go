// Package access decides who may do what at the registry's address.
//
//	access            settings, who somebody is, and what they may do
//	access/htpasswd   users by their passwords; who guesses is slowed
//	access/token      bearer tokens of another issuer
//	access/certs      TLS, renewed while it serves; users by their certificates
//	access/limit      connections, requests, headers, slow clients
//	access/known      what was proven, for a while, without the secret
//	access/watch      when files have changed
//
// # Who somebody is
//
// What the Authorization header proves, else what the client's certificate
// does, else nobody. A header that proves nothing is refused, also where nobody
// might have pulled; but for the empty name with the empty password, which some
// clients send for nobody.
//
// # What they may do
//
// Without auth everybody may everything, and what clients may push to is left
// to registry.push. With it:
//
//   - Nobody may pull with anonymous: pull, and nothing else.
//   - Users may pull.
//   - Without a rule that allows push or delete anywhere, users may push and
//     delete. With one, those may whom any rule that matches allows it: rules
//     add up, and their order does not matter.
//   - A repository that a rule with pull matches is for those only that such a
//     rule names: it is hidden from all others, from nobody first.
//   - Who has a token of the issuer may what it grants and nothing else: the
//     issuer decides, rules do not.
//
// The token's scopes name repositories as the client does in its path. Where
// one path means several local repositories (containerd's ?ns=) a scope grants
// them all, as nothing in the token's specification could tell them apart.
//
// # How clients are asked
//
// With an issuer by Bearer, with its realm, service and the scope that the
// request needs; a token that grants too little is asked for again. With a file
// of users and anonymous: none by Basic. With anonymous: pull clients that ask
// at /v2/ whether they have to log in would never log in, or never pull without
// it, whichever the answer; they are asked by Bearer with a realm of our own,
// [TokenPath], where a user gets a token for a password and nobody one for
// nothing. It lasts for five minutes and not longer than the user's password,
// and grants nothing by itself: rules are asked per request. Passwords are
// taken everywhere else as well.
//
// Nothing of passwords, tokens and headers is logged, told in an error, or
// kept; user names that failed are logged, as far as they are text.
package access
