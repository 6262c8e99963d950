fn main() {
    for crd in medusa_fleet::api::crds::all().unwrap() {
        println!("---\n{}", serde_saphyr::to_string(&crd).unwrap());
    }
}
