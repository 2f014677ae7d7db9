// Package htpasswd knows users by their passwords.
//
// The file has a line name:hash for each user, as `htpasswd -B` writes it;
// blank lines and those that begin with # are passed over. Only hashes of
// bcrypt are taken, of a cost of at most 15. A fault is told with its line and
// never with its hash. The file is read again when it changes (see package
// watch); of one that is wrong nothing is taken: the users of before remain,
// and it is reported once.
//
// # What a login costs
//
// A password that was right is remembered for ten minutes as an HMAC under a
// key of this process, and not after the file changed. Of others bcrypt is
// paid, also of users that are not known, so that time tells nothing. At most
// half of the processors compare at once, 64 logins wait, no longer than ten
// seconds; more are refused at once.
//
// # Who guesses
//
// Failed logins are counted for each user at an address (5 at once, then one
// in 10 s), for each address (20, one in 3 s) and for each user (50, one in a
// second); of IPv6 an address is the network of 64 bits. Who logged in from an
// address within a day has only the first: guessing behind the same address,
// or at the same name from elsewhere, does not keep them out. Somebody new
// behind the address of a guesser has the next try that comes free, in seconds.
// A password that is remembered is never refused. What is counted is bounded:
// when there is too much, who failed least is forgotten.
package htpasswd
