// Package check proves that what is stored is what the ledger and the digests say,
// and heals what it can.
//
// # What it looks at
//
// Of every repository: the tags, the links of manifests and of blobs, and the
// manifests themselves, which are read and hashed, because what they refer to is
// what the rest is held against. Of blobs it looks whether they are there with the
// length that each manifest says. Then it does the same from the ledger's side:
// tags, manifests of repositories, and the edges in both directions. Then all files
// of content: those that nothing refers to. With a part to read, it also reads
// and hashes that part of all content; M parts are everything, once.
//
// # Kinds of problems
//
//	missing     content that something refers to is not here
//	truncated   content is shorter than what refers to it says
//	corrupt     content does not hash to its digest
//	unreadable  the disk does not let a file or folder be read
//	unlinked    a repository does not serve what one of its tags or manifests needs
//	dangling    a link that leads nowhere, and that nothing needs
//	malformed   a link holds another digest or none, a manifest cannot be understood,
//	            or says another length than its content has
//	foreign     a file that is no part of a registry
//	unrecorded  the ledger does not know a tag or manifest as it is served
//	vanished    the ledger knows a tag or manifest that is not served
//	edges       the ledger's references are not those of the manifest
//	orphaned    content that nothing refers to, for longer than an hour
//	abandoned   an upload or a download that nobody has added to for a week
//
// A read error is a problem and ends nothing. An error of the ledger's file does.
//
// # What changes meanwhile
//
// Others publish, push and remove while it looks. What seems wrong is looked at a
// second time, alone, while nobody publishes into that repository or takes
// something out of it: only what is wrong then is a problem. Files of content are
// never half: what has its name is whole, so one that reads wrong is read again.
// Content that nobody refers to is a problem when it is older than an hour, and
// still nothing links it when all repositories have been looked through again. A
// single image that takes more than an hour to come seems orphaned meanwhile.
// A restore brings history back in the end: in that moment a tag whose image could
// not be restored may seem vanished.
//
// # Repair
//
// Without being told so a check changes nothing: it is a look. Told to quarantine, it
// moves bad bytes to <data>/registry/quarantine and changes nothing else; told to
// repair, it does so first. What is read and hashes wrong is read again and goes in
// that moment, not when the check ends, so that nobody is sent it and whoever brings
// the content again stores it. What lies in quarantine stays there until a person
// removes it. What is missing is fetched by
// digest from the sources that the caller gives, and becomes visible when it has
// been hashed. Links are made again where the content is here, the ledger learns
// what the registry serves, and a tag that only the ledger knows is put back. What
// no source had comes with the next sync that has it in its rules.
// A cautious check, which the daemon's is, heals nothing when more than a tenth of
// the store is wrong: then a disk is not mounted or the memory is broken.
// Everything is looked at again afterwards; what is right then was repaired.
// Nothing that is good is ever removed: content that nothing refers to is for the
// collector, foreign files for people.
//
// # Beside clients
//
// With a [Pace] it reads no more bytes a second than that, and a quarter of it
// while clients are answered; a look at a file that is not read counts as 4 KiB. What
// it does alone, while others wait for it, is not paced. On Linux the kernel is told
// to forget a file before it is read, so that it is the disk that is read, and
// afterwards, so that what clients ask for stays in memory.
//
// # What is not here
//
// Knowledge of what a collector has condemned; content of other stores than this one.
// Content that cannot be read at all may be right, and is left where it is. For every content that is known some
// two hundred bytes of memory are used, for what is read a quarter of a megabyte.
package check
