"""What keeps people unknown: no pixel reaches a disk or a wire that `anonymiser` has not passed.

`heads` says where a silhouette may show a head, `faces` and `onlookers` find those that geometry does not see,
`number_plates` the plates of vehicles; `holdover` lets sinks run a second behind, so that `head_memory` covers the
moments before and after; `fills` is how things are covered; `hardening` keeps raw frames out of core dumps.
"""
