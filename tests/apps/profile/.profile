export ORDER="$ORDER profile"
export FROM=profile
