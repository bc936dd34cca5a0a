(defproject widgets "1.0.0")
